//! Everything that is printed. Data goes to stdout, all else to stderr.

pub(crate) mod error;
pub(crate) mod log;
pub(crate) mod progress;
pub(crate) mod table;

/// Writes data to stdout. A closed pipe (`nexa runs list | head`) ends the program quietly.
pub(crate) fn out(text: &str) {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    if write!(stdout, "{text}{newline}").and_then(|()| stdout.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Writes a value as JSON to stdout.
///
/// # Errors
/// Fails when the value cannot be JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    out(&serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Writes a line for the person to stderr.
pub(crate) fn note(text: &str) {
    use std::io::Write;
    // A terminal that is gone cannot be told so.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
