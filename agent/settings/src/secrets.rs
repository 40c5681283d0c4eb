//! Secrets that may stand in the settings: types that show nothing of themselves, in errors and in `Debug`.

use std::fmt;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// No hash or key is longer; a file that someone pasted is.
const SECRET_BYTES_MAX: usize = 1024;

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The secret itself.
            pub fn expose(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                let check: fn(&str) -> Result<(), String> = $check;
                let text = text.trim().to_owned();
                check(&text).map(|()| Self(text))
            }
        }

        impl From<$name> for String {
            fn from(secret: $name) -> Self {
                secret.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

secret!(
    /// A password as crypt(5) keeps it. Empty: there is no password.
    PasswordHash,
    |text| {
        if text.is_empty() || is_crypt(text) {
            Ok(())
        } else {
            Err("this is not the hash of a password: never write the password itself here. `mkpasswd` or `openssl \
                 passwd -6` make a hash such as \"$6$…\""
                .to_owned())
        }
    }
);
secret!(
    /// The key of an account at a CA, in base64url as CAs hand it out: RFC 8555, 7.3.4.
    HmacKey,
    |text| check_base64(text, &BASE64_URL_SAFE_NO_PAD, "base64url without \"=\" at its end, as the CA hands it out")
);
secret!(
    /// The key that signs updates of DNS: RFC 8945.
    TsigSecret,
    |text| check_base64(text, &BASE64_STANDARD, "base64, as the DNS server shows it")
);

/// `$ID$…` with an identifier that Debian's libcrypt knows and that is not broken.
fn is_crypt(text: &str) -> bool {
    const KNOWN: &[&str] = &["$y$", "$gy$", "$7$", "$2b$", "$2y$", "$6$", "$5$"];
    let rest = KNOWN.iter().find_map(|prefix| text.strip_prefix(prefix));
    let printable = text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b':' | b'!' | b'*' | b';' | b'\\'));
    printable && text.len() <= SECRET_BYTES_MAX && rest.is_some_and(|rest| rest.contains('$') && rest.len() >= 20)
}

fn check_base64(text: &str, engine: &impl Engine, form: &str) -> Result<(), String> {
    if text.len() <= SECRET_BYTES_MAX && engine.decode(text).is_ok() {
        Ok(())
    } else {
        Err(format!("this is not {form}: copy it again"))
    }
}
