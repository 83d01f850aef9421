//! Sizes of files, as people write them.

/// Reads a size such as `5GB`, `500 MB` or `2GiB`.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let unit: u64 = match text[digits..].trim().to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KIB" => 1 << 10,
        "MIB" => 1 << 20,
        "GIB" => 1 << 30,
        "TIB" => 1 << 40,
        other => return Err(format!("`{other}` is no unit (there are: KB, MB, GB, TB, KiB, MiB, GiB, TiB)")),
    };
    let count: u64 =
        text[..digits].parse().map_err(|_| "it does not begin with a whole number".to_owned())?;
    count.checked_mul(unit).filter(|&size| size > 0).ok_or_else(|| "it is no size of a file".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_the_usual_units() {
        let check = |text: &str, expected: Result<u64, &str>| match (parse(text), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
            (found, _) => panic!("{text}: {found:?}"),
        };
        check("5GB", Ok(5_000_000_000));
        check("500 mb", Ok(500_000_000));
        check("2GiB", Ok(2 << 30));
        check("8000", Ok(8000));
        check("5XB", Err("`XB` is no unit"));
        check("GB", Err("whole number"));
        check("0GB", Err("no size"));
        check("99999999999TB", Err("no size"));
    }
}
