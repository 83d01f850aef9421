//! Dashboards: runs, curves, leaderboard, data sets, lineage and cost, rendered on the server.
