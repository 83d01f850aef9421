//! Whether what looks like a sensitive value is one: check digits, ranges, numbering plans.

use std::net::IpAddr;

/// No dot at either end of the name nor two in a row, and no domain that is reserved for examples (RFC 2606).
pub(super) fn email(text: &str) -> bool {
    let Some((name, domain)) = text.rsplit_once('@') else { return false };
    let domain = domain.to_ascii_lowercase();
    let reserved = ["example.com", "example.org", "example.net"].contains(&domain.as_str())
        || [".example", ".invalid", ".localhost", ".test"].iter().any(|end| domain.ends_with(end));
    !reserved && !name.ends_with('.') && !name.contains("..")
}

/// Globally reachable: what names a machine of somebody, not a private network, a loopback or a form of documentation.
pub(super) fn ip_address(text: &str) -> bool {
    match text.parse() {
        Ok(IpAddr::V4(address)) => {
            let [a, b, c, _] = address.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let protocol = (a, b, c) == (192, 0, 0);
            let benchmark = a == 198 && (b == 18 || b == 19);
            !(address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_documentation()
                || address.is_multicast()
                || a == 0
                || a >= 240
                || shared
                || protocol
                || benchmark)
        }
        // Global unicast is 2000::/3 (RFC 4291), of which 2001:db8::/32 is for documentation.
        Ok(IpAddr::V6(address)) => {
            let [first, second, ..] = address.segments();
            (0x2000..0x4000).contains(&first) && (first, second) != (0x2001, 0xdb8)
        }
        Err(_) => false,
    }
}

/// Check digits (mod 97) and the form of the country.
pub(super) fn iban(text: &str) -> bool {
    text.replace(' ', "").parse::<iban::Iban>().is_ok()
}

/// Issuer, length and check digit (Luhn); digits in groups of no other separator than one.
pub(super) fn credit_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let mixed = text.contains(' ') && text.contains('-');
    !mixed && card_validate::Validate::from(&digits).is_ok()
}

/// Areas, groups and serials that were never given out are no numbers (Social Security Administration).
pub(super) fn us_ssn(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [area, group, serial] = parts[..] else { return false };
    area != "000" && area != "666" && !area.starts_with('9') && group != "00" && serial != "0000"
}

/// Valid in the numbering plan of its country; one without a country's prefix is read as of North America.
pub(super) fn phone(text: &str) -> bool {
    let country = (!text.starts_with('+')).then_some(phonenumber::country::Id::US);
    phonenumber::parse(country, text).is_ok_and(|number| phonenumber::is_valid(&number))
}

/// Header and claims are JSON objects in Base64: the first two bytes of one, `{"`, are in the pattern; what is left is
/// that every part has a length that Base64 can have.
pub(super) fn jwt(text: &str) -> bool {
    text.split('.').all(|part| part.len() % 4 != 1)
}
