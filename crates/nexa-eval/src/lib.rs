//! Tasks, scorers, statistics and the leaderboard.
