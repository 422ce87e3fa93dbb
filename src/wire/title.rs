//! Names of fields with the capitals that HTTP/1 usually has: some readers go by them.

/// Writes a name, which is in lower case.
pub(super) fn write(name: &str, out: &mut Vec<u8>) {
    let mut before = b'-';
    out.extend(name.bytes().map(|byte| match std::mem::replace(&mut before, byte) {
        b'-' => byte.to_ascii_uppercase(),
        _ => byte,
    }));
}
