//! `GET /`: the live page, one file without outside assets.
//!
//! Its policy names the hashes of its own style and script and allows nothing else, so that nothing
//! that an analyzer's id could carry is ever run.

use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use super::response::Response;

const PAGE: &str = include_str!("page.html");
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The page.
pub fn response() -> Response {
    static POLICY: OnceLock<String> = OnceLock::new();
    let policy = POLICY.get_or_init(policy);
    Response {
        status: 200,
        content_type: "text/html; charset=utf-8",
        headers: vec![
            ("Content-Security-Policy", policy.clone()),
            ("Referrer-Policy", "no-referrer".into()),
            ("Cross-Origin-Opener-Policy", "same-origin".into()),
            ("Cross-Origin-Resource-Policy", "same-origin".into()),
            ("Origin-Agent-Cluster", "?1".into()),
            // Of browsers and readers that know no policy.
            ("X-Frame-Options", "DENY".into()),
            ("X-DNS-Prefetch-Control", "off".into()),
            ("X-Download-Options", "noopen".into()),
            ("X-Permitted-Cross-Domain-Policies", "none".into()),
            ("X-XSS-Protection", "0".into()),
            ("Cache-Control", "no-cache".into()),
        ],
        body: PAGE.as_bytes().to_vec(),
    }
}

fn policy() -> String {
    let hash = |element| hash(inline(PAGE, element));
    format!(
        "default-src 'none'; style-src '{}'; script-src '{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("style"),
        hash("script")
    )
}

/// What stands between the only `<element>` and its end.
fn inline<'a>(page: &'a str, element: &str) -> &'a str {
    let after = page
        .split_once(&format!("<{element}>"))
        .unwrap_or_default()
        .1;
    after
        .split_once(&format!("</{element}>"))
        .unwrap_or_default()
        .0
}

fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let mut out = String::from("sha256-");
    for three in digest.chunks(3) {
        let bits = three
            .iter()
            .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            let is_there = digit <= three.len();
            out.push(if is_there {
                char::from(BASE64[index as usize])
            } else {
                '='
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_what_a_browser_computes() {
        // printf '' | openssl dgst -sha256 -binary | base64; the same of alert(1)
        assert_eq!(
            hash(""),
            "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
        );
        assert_eq!(
            hash("alert(1)"),
            "sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI="
        );
    }

    #[test]
    fn the_page_is_one_file_and_its_policy_fits_it() {
        for element in ["style", "script"] {
            assert_eq!(PAGE.matches(&format!("<{element}")).count(), 1, "{element}");
            assert!(inline(PAGE, element).len() > 500, "{element}");
        }
        for outside in [
            "http://",
            "https://",
            " src=",
            "@import",
            "url(",
            "innerHTML",
            "style=\"",
        ] {
            let allowed = outside == "http://" && PAGE.contains("http://www.w3.org/2000/svg");
            assert!(!PAGE.contains(outside) || allowed, "{outside}");
        }
        let response = response();
        let policy = &response.headers[0].1;
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("'un"));
    }
}
