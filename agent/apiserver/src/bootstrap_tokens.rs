//! Bootstrap tokens: `ID.SECRET` of a Secret in `kube-system`, for whoever is about to join. Each is a user of its own, with
//! no rights but those that its groups have.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use skiff_object::{kinds, meta};
use skiff_store::Store;

use crate::users::User;
use crate::{Api, codec};

const TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";
const NAMESPACE: &str = "kube-system";

/// The two parts, if it looks like one.
pub fn parts(token: &str) -> Option<(&str, &str)> {
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase());
    token.split_once('.').filter(|(id, secret)| id.len() == 6 && secret.len() == 16 && is_plain(id) && is_plain(secret))
}

impl<S: Store> Api<S> {
    pub(crate) async fn user_of_bootstrap_token(&self, id: &str, secret: &str) -> Option<User> {
        let secrets = kinds::by_kind("v1", "Secret").expect("a built-in kind");
        let key = secrets.key(Some(NAMESPACE), &format!("bootstrap-token-{id}"));
        let object = codec::decode(&self.store().get(&key).await.ok()??);
        user(&object, id, secret, jiff::Timestamp::now())
    }
}

fn user(object: &Value, id: &str, secret: &str, now: jiff::Timestamp) -> Option<User> {
    let data = |field: &str| {
        let bytes = BASE64_STANDARD.decode(meta::text_at(object, &["data", field])).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    };
    if object["type"] != TYPE || meta::deletion_timestamp(object).is_some() {
        return None;
    }
    let known = data("token-secret");
    let is_same = aws_lc_rs::constant_time::verify_slices_are_equal(known.as_bytes(), secret.as_bytes()).is_ok();
    if !is_same || data("token-id") != id || data("usage-bootstrap-authentication") != "true" {
        return None;
    }
    let expires = data("expiration");
    if !expires.is_empty() && expires.parse::<jiff::Timestamp>().ok().is_none_or(|expires| expires <= now) {
        return None;
    }
    let mut groups = vec![GROUP.to_owned()];
    for group in data("auth-extra-groups").split(',').map(str::trim).filter(|group| !group.is_empty()) {
        // As upstream: nobody becomes of another group by it.
        if !group.starts_with("system:bootstrappers:") {
            return None;
        }
        groups.push(group.to_owned());
    }
    let name = format!("system:bootstrap:{id}");
    Some(User { name, uid: String::new(), groups, extra: Default::default() }.authenticated())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn token(more: Value) -> Value {
        let mut data = json!({"token-id": "abcdef", "token-secret": "0123456789abcdef",
            "usage-bootstrap-authentication": "true", "auth-extra-groups": "system:bootstrappers:nodes"});
        for (field, value) in more.as_object().into_iter().flatten() {
            data[field] = value.clone();
        }
        for value in data.as_object_mut().expect("a map").values_mut() {
            *value = BASE64_STANDARD.encode(value.as_str().expect("text")).into();
        }
        json!({"type": TYPE, "metadata": {"name": "bootstrap-token-abcdef"}, "data": data})
    }

    #[test]
    fn only_a_whole_and_current_token_is_one() {
        let now = "2026-11-26T00:00:00Z".parse().expect("a time");
        let of = |object: &Value, secret: &str| user(object, "abcdef", secret, now);
        let good = of(&token(json!({})), "0123456789abcdef").expect("a user");
        assert_eq!(good.name, "system:bootstrap:abcdef");
        assert_eq!(good.groups, ["system:bootstrappers", "system:bootstrappers:nodes", "system:authenticated"]);
        assert!(of(&token(json!({"expiration": "2026-11-26T00:00:01Z"})), "0123456789abcdef").is_some());
        for wrong in [
            json!({"expiration": "2026-11-26T00:00:00Z"}),
            json!({"expiration": "tomorrow"}),
            json!({"usage-bootstrap-authentication": "false"}),
            json!({"token-id": "other1"}),
            json!({"auth-extra-groups": "system:masters"}),
        ] {
            assert!(of(&token(wrong.clone()), "0123456789abcdef").is_none(), "{wrong}");
        }
        assert!(of(&token(json!({})), "0123456789abcdee").is_none() && of(&token(json!({})), "").is_none());
        let mut other = token(json!({}));
        other["type"] = json!("Opaque");
        assert!(of(&other, "0123456789abcdef").is_none());
    }

    #[test]
    fn what_looks_otherwise_is_none() {
        assert_eq!(parts("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        for wrong in ["", "abcdef", "abcdef.0123", "ABCDEF.0123456789abcdef", "abc/ef.0123456789abcdef", "a.b.c"] {
            assert_eq!(parts(wrong), None, "{wrong}");
        }
    }
}
