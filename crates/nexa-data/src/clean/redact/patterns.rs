//! The forms of sensitive values. A pattern may be generous where a validator decides; forms without a check digit are
//! strict instead.

use super::Sensitive;
use super::validate;

/// A form of a sensitive value.
pub(super) struct Pattern {
    pub(super) kind: Sensitive,
    pub(super) regex: &'static str,
    /// Decides on what the pattern has found.
    pub(super) is_valid: fn(&str) -> bool,
}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.regex)
    }
}

const fn secret(regex: &'static str) -> Pattern {
    Pattern { kind: Sensitive::Secret, regex, is_valid: |_| true }
}

/// Every form, those of secrets first: where two fit, the earlier is taken.
///
/// # Source
/// The forms of keys are those that their providers document: AWS access keys and the secret beside them, GitHub
/// tokens, keys of OpenAI and of services in its manner, Google, Slack, Hugging Face, Stripe, PEM and JWT (RFC 7519).
pub(super) static ALL: [Pattern; 18] = [
    secret(
        r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----[^-]+-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----",
    ),
    Pattern {
        kind: Sensitive::Secret,
        regex: r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
        is_valid: validate::jwt,
    },
    secret(r"(?:AKIA|ASIA)[A-Z2-7]{16}"),
    secret(r#"(?i)aws_?secret_?(?:access_?)?key["']?\s*[:=]\s*["']?(?P<value>[A-Za-z0-9/+]{40})"#),
    secret(r"gh[pousr]_[A-Za-z0-9]{36,255}"),
    secret(r"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
    secret(r"sk-(?:proj-|svcacct-|admin-|ant-[a-z0-9]+-|or-v1-)?[A-Za-z0-9_-]{32,}"),
    secret(r"AIza[A-Za-z0-9_-]{35}"),
    secret(r"xox[abprs]-[0-9]{6,}-[A-Za-z0-9-]{10,}"),
    secret(r"https://hooks\.slack\.com/services/T[A-Z0-9]+/B[A-Z0-9]+/[A-Za-z0-9]{20,}"),
    secret(r"hf_[A-Za-z]{34}"),
    secret(r"(?:sk|rk)_live_[A-Za-z0-9]{20,}"),
    Pattern {
        kind: Sensitive::Email,
        regex: r"[A-Za-z0-9][A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}",
        is_valid: validate::email,
    },
    Pattern {
        kind: Sensitive::IpAddress,
        regex: r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}|(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}",
        is_valid: validate::ip_address,
    },
    Pattern {
        kind: Sensitive::Iban,
        regex: r"[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?",
        is_valid: validate::iban,
    },
    Pattern {
        kind: Sensitive::CreditCard,
        regex: r"[2-6](?:[ -]?[0-9]){12,18}",
        is_valid: validate::credit_card,
    },
    Pattern { kind: Sensitive::UsSsn, regex: r"[0-9]{3}-[0-9]{2}-[0-9]{4}", is_valid: validate::us_ssn },
    Pattern {
        kind: Sensitive::Phone,
        regex: r"\+[1-9](?:[ .()/-]{0,2}[0-9]){6,14}|(?:\+?1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])[2-9][0-9]{2}[ .-][0-9]{4}",
        is_valid: validate::phone,
    },
];
