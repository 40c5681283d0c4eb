//! A configuration profile with a root certificate, as iOS and macOS install it. Pure.
//! <https://developer.apple.com/documentation/devicemanagement/certificateroot>

use aws_lc_rs::digest;
use base64::prelude::{BASE64_STANDARD, Engine};

pub(super) fn render(root_der: &[u8], name: &str) -> String {
    let hash = digest::digest(&digest::SHA256, root_der);
    let short: String = hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    PROFILE
        .replace("{certificate}", &BASE64_STANDARD.encode(root_der))
        .replace("{id}", &format!("dev.skiff.box-ca.{short}"))
        .replace("{certificate-uuid}", &uuid(hash.as_ref(), 0))
        .replace("{profile-uuid}", &uuid(hash.as_ref(), 1))
        .replace("{name}", &escaped(name))
}

/// The same for the same root, so that installing it again replaces it. Marked as RFC 9562's version 8.
fn uuid(hash: &[u8], which: u8) -> String {
    let mut seed = hash.to_vec();
    seed.push(which);
    let hash = digest::digest(&digest::SHA256, &seed);
    let mut bytes: Vec<u8> = hash.as_ref().iter().take(16).copied().collect();
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

const PROFILE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>PayloadContent</key>
  <array>
    <dict>
      <key>PayloadCertificateFileName</key>
      <string>box-ca.cer</string>
      <key>PayloadContent</key>
      <data>{certificate}</data>
      <key>PayloadDisplayName</key>
      <string>{name}</string>
      <key>PayloadIdentifier</key>
      <string>{id}.root</string>
      <key>PayloadType</key>
      <string>com.apple.security.root</string>
      <key>PayloadUUID</key>
      <string>{certificate-uuid}</string>
      <key>PayloadVersion</key>
      <integer>1</integer>
    </dict>
  </array>
  <key>PayloadDescription</key>
  <string>Lets this device trust the names of your box at home, and no others.</string>
  <key>PayloadDisplayName</key>
  <string>{name}</string>
  <key>PayloadIdentifier</key>
  <string>{id}</string>
  <key>PayloadRemovalDisallowed</key>
  <false/>
  <key>PayloadType</key>
  <string>Configuration</string>
  <key>PayloadUUID</key>
  <string>{profile-uuid}</string>
  <key>PayloadVersion</key>
  <integer>1</integer>
</dict>
</plist>
"#;
