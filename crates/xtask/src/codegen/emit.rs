//! Writes Rust for parsed schemas: per message a plain struct with `decode` or `encode`.
//!
//! The broker decodes requests and encodes responses. The opposite direction and sample values are
//! written too, but for tests only.

use super::schema::{Api, Field, Struct, Type, Versions};
use std::fmt::Write;

const NOTICE: &str = "//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.";

/// The head of the table through which tests reach every message.
const TEST_TABLE: &str = "
/// Both directions of one generated message.
#[cfg(test)]
pub(crate) struct Codec {
    pub key: ApiKey,
    pub request: bool,
    /// Writes a random message.
    pub sample: fn(&mut koine_base::rng::Rng, &mut super::Writer<'_>, i16),
    /// Decodes a frame and encodes it again.
    pub reencode: fn(&bytes::Bytes, i16) -> Result<bytes::BytesMut, super::Malformed>,
}

#[cfg(test)]
pub(crate) const CODECS: &[Codec] = &[
";

/// `mod.rs`: the modules, the table of APIs, and the dispatch that codec tests use.
pub fn index(apis: &[Api]) -> String {
    let mut out = format!("{NOTICE}\n\nuse super::Api;\n");
    let generated = || apis.iter().filter(|api| !api.handwritten);
    for api in generated() {
        line(&mut out, format!("pub mod {};", api.module));
    }
    out.push_str("\n/// The requests that are advertised, in the order of their keys.\n");
    out.push_str("#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]\n");
    out.push_str("pub enum ApiKey {\n");
    for api in apis {
        line(&mut out, format!("{} = {},", api.name, api.key));
    }
    out.push_str(
        "}\n\n/// One entry per [`ApiKey`], in the same order.\npub const APIS: &[Api] = &[\n",
    );
    for api in apis {
        line(
            &mut out,
            format!(
                "Api {{ key: ApiKey::{0}, name: \"{0}\", version_min: {1}, version_max: {2}, flexible_from: {3} }},",
                api.name,
                api.versions.min,
                api.versions.max,
                api.flexible.unwrap_or(i16::MAX),
            ),
        );
    }
    out.push_str("];\n\n");
    out.push_str(TEST_TABLE);
    for api in generated() {
        for (flag, name) in [(true, "Request"), (false, "Response")] {
            let path = format!("{}::{name}", api.module);
            line(
                &mut out,
                format!(
                    "Codec {{ key: ApiKey::{}, request: {flag}, \
                     sample: |rng, w, v| {path}::sample(rng, v).encode(w, v), \
                     reencode: |frame, v| super::tests::reencode(frame, |r| {path}::decode(r, v), |m, w| m.encode(w, v)) }},",
                    api.name
                ),
            );
        }
    }
    out.push_str("];\n");
    out
}

/// The module of one API.
pub fn message(api: &Api) -> String {
    let mut body = String::new();
    emit_struct(&mut body, api, &api.request, true);
    emit_struct(&mut body, api, &api.response, false);
    let mut out = format!("{NOTICE}\n//!\n");
    for text in &api.doc {
        line(&mut out, format!("//! {text}"));
    }
    // A message with no field but numbers needs only some of these.
    out.push_str("\nuse crate::codec::{Malformed, Reader, Writer};\n");
    if body.contains("Bytes") {
        out.push_str("use bytes::Bytes;\n");
    }
    if body.contains("Secret") {
        out.push_str("use koine_broker::access::Secret;\n");
    }
    out.push_str(
        "#[cfg(test)]\nuse crate::codec::samples;\n#[cfg(test)]\nuse koine_base::rng::Rng;\n",
    );
    if !body.lines().any(|l| l.contains("pub fn decode") && !l.contains("cfg(test)")) {
        out = out.replace("Malformed, Reader, ", "");
    }
    out.push_str(&body);
    out
}

fn line(out: &mut String, text: impl AsRef<str>) {
    out.push_str(text.as_ref());
    out.push('\n');
}

fn emit_struct(out: &mut String, api: &Api, item: &Struct, request: bool) {
    for field in &item.fields {
        let mut kind = &field.kind;
        while let Type::Array(element) = kind {
            kind = element;
        }
        if let Type::Struct(inner) = kind {
            emit_struct(out, api, inner, request);
        }
    }
    let zero_default = item.fields.iter().all(|field| field.default.is_none());
    let derive = if zero_default { ", Default" } else { "" };
    line(
        out,
        format!("\n#[derive(Clone, Debug, PartialEq, Eq{derive})]\npub struct {} {{", item.name),
    );
    for field in &item.fields {
        if !field.doc.is_empty() {
            line(out, format!("/// {}", field.doc));
        }
        line(out, format!("pub {}: {},", field.name, rust_type(field)));
    }
    out.push_str("}\n\n");
    if !zero_default {
        line(out, format!("impl Default for {} {{\nfn default() -> Self {{\nSelf {{", item.name));
        for field in &item.fields {
            line(out, format!("{}: {},", field.name, default_of(field)));
        }
        out.push_str("}\n}\n}\n\n");
    }
    let (broker, peer) = if request {
        (decode_function(api, item), encode_function(api, item))
    } else {
        (encode_function(api, item), decode_function(api, item))
    };
    line(out, format!("impl {} {{\n{broker}\n}}\n", item.name));
    let sample = sample_function(item);
    line(out, format!("#[cfg(test)]\nimpl {} {{\n{peer}\n{sample}\n}}", item.name));
}

fn rust_type(field: &Field) -> String {
    let plain = plain_type(&field.kind);
    match field.nullable {
        Some(_) => format!("Option<{plain}>"),
        None => plain,
    }
}

fn plain_type(kind: &Type) -> String {
    match kind {
        Type::Bool => "bool".into(),
        Type::I8 => "i8".into(),
        Type::I16 => "i16".into(),
        Type::I32 => "i32".into(),
        Type::I64 => "i64".into(),
        Type::Uuid => "[u8; 16]".into(),
        Type::String => "String".into(),
        Type::Bytes => "Bytes".into(),
        Type::Secret => "Secret".into(),
        Type::Struct(item) => item.name.clone(),
        Type::Array(element) => format!("Vec<{}>", plain_type(element)),
    }
}

fn default_of(field: &Field) -> String {
    match (&field.default, field.nullable, &field.kind) {
        (Some(value), _, _) => value.clone(),
        (None, Some(_), _) => "None".into(),
        (None, None, Type::Bool) => "false".into(),
        (None, None, Type::I8 | Type::I16 | Type::I32 | Type::I64) => "0".into(),
        (None, None, Type::Uuid) => "[0; 16]".into(),
        (None, None, kind) => match kind {
            Type::String => "String::new()".into(),
            Type::Bytes => "Bytes::new()".into(),
            Type::Array(_) => "Vec::new()".into(),
            other => format!("{}::default()", plain_type(other)),
        },
    }
}

/// The condition for `some` given that `all` holds; `None` if it always holds.
fn condition(some: Versions, all: Versions) -> Option<String> {
    let some = some.within(all);
    match (some.min > all.min, some.max < all.max) {
        (false, false) => None,
        (true, false) => Some(format!("v >= {}", some.min)),
        (false, true) if some.max == all.min => Some(format!("v == {}", some.max)),
        (false, true) => Some(format!("v <= {}", some.max)),
        (true, true) if some.min == some.max => Some(format!("v == {}", some.min)),
        (true, true) => Some(format!("({}..={}).contains(&v)", some.min, some.max)),
    }
}

/// Whether version `v` of `item` is flexible, as an expression.
fn flexible(api: &Api, versions: Versions) -> String {
    match api.flexible {
        Some(first) if first <= versions.min => "true".into(),
        Some(first) if first <= versions.max => format!("v >= {first}"),
        _ => "false".into(),
    }
}

fn decode_function(api: &Api, item: &Struct) -> String {
    let mut body = String::new();
    for field in &item.fields {
        if field.tag.is_some() {
            line(&mut body, format!("let mut {} = {};", field.name, default_of(field)));
            continue;
        }
        let read = read_field(api, field);
        let value = match condition(field.versions, item.versions) {
            None => read,
            Some(holds) => format!("if {holds} {{ {read} }} else {{ {} }}", default_of(field)),
        };
        line(&mut body, format!("let {} = {value};", field.name));
    }
    let tags = tagged(item);
    let skip = if tags.is_empty() {
        "r.skip_tags()?;".to_string()
    } else {
        let mut arms = String::new();
        for (tag, field) in tags {
            let _ = write!(arms, "{tag} => {} = {},", field.name, read_field(api, field));
        }
        format!("r.tags(|tag, r| {{ match tag {{ {arms} _ => return Ok(false) }} Ok(true) }})?;")
    };
    push_if_flexible(&mut body, api, item, &skip);
    let names: Vec<&str> = item.fields.iter().map(|field| field.name.as_str()).collect();
    let result = format!("Ok(Self {{ {} }})", names.join(", "));
    let r = if body.contains("r.") { "r" } else { "_r" };
    let v = if uses_version(&body) { "v" } else { "_v" };
    format!("pub fn decode({r}: &mut Reader<'_>, {v}: i16) -> Result<Self, Malformed> {{\n{body}{result}\n}}\n")
}

fn encode_function(api: &Api, item: &Struct) -> String {
    let mut body = String::new();
    for field in item.fields.iter().filter(|field| field.tag.is_none()) {
        let write = write_field(api, field);
        match condition(field.versions, item.versions) {
            None => line(&mut body, write),
            Some(holds) => line(&mut body, format!("if {holds} {{ {write} }}")),
        }
    }
    let tags = tagged(item);
    let mut text = String::new();
    if tags.is_empty() {
        text.push_str("w.no_tags();");
    } else {
        let present: Vec<String> = tags.iter().map(|(_, field)| is_set(field)).collect();
        let counts: Vec<String> = present.iter().map(|test| format!("u32::from({test})")).collect();
        line(&mut text, format!("w.uvarint({});", counts.join(" + ")));
        for ((tag, field), test) in tags.iter().zip(&present) {
            let write = write_field(api, field);
            line(&mut text, format!("if {test} {{ w.tag({tag}, |w| {{ {write} }}); }}"));
        }
    }
    push_if_flexible(&mut body, api, item, &text);
    let v = if uses_version(&body) { "v" } else { "_v" };
    format!("pub fn encode(&self, w: &mut Writer<'_>, {v}: i16) {{\n{body}}}\n")
}

fn uses_version(body: &str) -> bool {
    body.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == "v")
}

fn push_if_flexible(body: &mut String, api: &Api, item: &Struct, text: &str) {
    match flexible(api, item.versions).as_str() {
        "true" => line(body, text),
        "false" => {}
        holds => line(body, format!("if {holds} {{ {text} }}")),
    }
}

fn tagged(item: &Struct) -> Vec<(u32, &Field)> {
    item.fields.iter().filter_map(|field| Some((field.tag?, field))).collect()
}

/// Tagged fields with their default value are left out.
fn is_set(field: &Field) -> String {
    match (&field.kind, field.nullable) {
        (_, Some(_)) => format!("self.{}.is_some()", field.name),
        (Type::Array(_) | Type::String | Type::Bytes | Type::Secret, None) => {
            format!("!self.{}.is_empty()", field.name)
        }
        _ => format!("self.{} != {}", field.name, default_of(field)),
    }
}

fn read_field(api: &Api, field: &Field) -> String {
    let plain = || format!("{}?", read(api, &field.kind, field.versions, false));
    let Some(nullable) = field.nullable else {
        return plain();
    };
    let null = format!("{}?", read(api, &field.kind, field.versions, true));
    match condition(nullable, field.versions) {
        None => null,
        Some(holds) => format!("if {holds} {{ {null} }} else {{ Some({}) }}", plain()),
    }
}

/// A call on `r` that gives a `Result`.
fn read(api: &Api, kind: &Type, versions: Versions, nullable: bool) -> String {
    let prefix = if nullable { "nullable_" } else { "" };
    let flexible = flexible(api, versions);
    match kind {
        Type::Bool => "r.bool()".into(),
        Type::I8 => "r.i8()".into(),
        Type::I16 => "r.i16()".into(),
        Type::I32 => "r.i32()".into(),
        Type::I64 => "r.i64()".into(),
        Type::Uuid => "r.uuid()".into(),
        Type::String => format!("r.{prefix}string({flexible})"),
        Type::Bytes => format!("r.{prefix}bytes({flexible})"),
        Type::Secret => format!("r.secret({flexible})"),
        Type::Struct(item) if nullable => {
            format!("r.nullable_struct(|r| {}::decode(r, v))", item.name)
        }
        Type::Struct(item) => format!("{}::decode(r, v)", item.name),
        Type::Array(element) => {
            let size = size_min(api, element, versions);
            let element = read(api, element, versions, false);
            format!("r.{prefix}array({flexible}, {size}, |r| {element})")
        }
    }
}

/// The fewest bytes a value takes on the wire in any version.
fn size_min(api: &Api, kind: &Type, versions: Versions) -> usize {
    let in_version = |version: i16| -> usize {
        let compact = api.is_flexible(version);
        match kind {
            Type::Bool | Type::I8 => 1,
            Type::I16 => 2,
            Type::I32 => 4,
            Type::I64 => 8,
            Type::Uuid => 16,
            Type::String => {
                if compact {
                    1
                } else {
                    2
                }
            }
            Type::Bytes | Type::Secret | Type::Array(_) => {
                if compact {
                    1
                } else {
                    4
                }
            }
            Type::Struct(item) => {
                let this = Versions { min: version, max: version };
                let present =
                    item.fields.iter().filter(|f| f.tag.is_none() && f.versions.contains(version));
                let fields: usize = present
                    .map(|field| match field.kind {
                        Type::Struct(_) if field.nullable.is_some() => 1,
                        _ => size_min(api, &field.kind, this),
                    })
                    .sum();
                fields + usize::from(compact)
            }
        }
    };
    (versions.min..=versions.max).map(in_version).min().unwrap_or(1).max(1)
}

fn write_field(api: &Api, field: &Field) -> String {
    let value = format!("self.{}", field.name);
    let Some(nullable) = field.nullable else {
        return format!("{};", write(api, &field.kind, field.versions, &value, true));
    };
    let flexible = flexible(api, field.versions);
    let (null, plain) = match &field.kind {
        Type::String => (
            format!("w.nullable_string({value}.as_deref(), {flexible});"),
            format!("w.string({value}.as_deref().unwrap_or_default(), {flexible});"),
        ),
        Type::Bytes => (
            format!("w.nullable_bytes({value}.as_deref(), {flexible});"),
            format!("w.bytes({value}.as_deref().unwrap_or_default(), {flexible});"),
        ),
        Type::Array(element) => {
            let each = write(api, element, field.versions, "x", false);
            (
                format!("w.nullable_array({value}.as_deref(), {flexible}, |w, x| {each});"),
                format!(
                    "w.array({value}.as_deref().unwrap_or_default(), {flexible}, |w, x| {each});"
                ),
            )
        }
        _ => {
            let text = format!("w.nullable_struct({value}.as_ref(), |w, x| x.encode(w, v));");
            (text.clone(), text)
        }
    };
    match condition(nullable, field.versions) {
        None => null,
        Some(holds) => format!("if {holds} {{ {null} }} else {{ {plain} }}"),
    }
}

/// A statement without its semicolon. `place` says that `value` is a place, not a reference.
fn write(api: &Api, kind: &Type, versions: Versions, value: &str, place: bool) -> String {
    let flexible = flexible(api, versions);
    let copied = if place { value.to_string() } else { format!("*{value}") };
    let shared = if place { format!("&{value}") } else { value.to_string() };
    match kind {
        Type::Bool => format!("w.bool({copied})"),
        Type::I8 => format!("w.i8({copied})"),
        Type::I16 => format!("w.i16({copied})"),
        Type::I32 => format!("w.i32({copied})"),
        Type::I64 => format!("w.i64({copied})"),
        Type::Uuid => format!("w.uuid({shared})"),
        Type::String => format!("w.string({shared}, {flexible})"),
        Type::Bytes => format!("w.bytes({shared}, {flexible})"),
        Type::Secret => format!("w.bytes({value}.expose(), {flexible})"),
        Type::Struct(_) => format!("{value}.encode(w, v)"),
        Type::Array(element) => {
            let each = write(api, element, versions, "x", false);
            format!("w.array({shared}, {flexible}, |w, x| {each})")
        }
    }
}

fn sample_function(item: &Struct) -> String {
    let mut fields = String::new();
    for field in &item.fields {
        let plain = sample_value(&field.kind);
        let value = match field.nullable {
            None => plain,
            Some(nullable) => match condition(nullable, field.versions) {
                None => format!("samples::nullable(rng, |rng| {plain})"),
                Some(holds) => format!(
                    "if {holds} {{ samples::nullable(rng, |rng| {plain}) }} else {{ Some({plain}) }}"
                ),
            },
        };
        let value = match condition(field.versions, item.versions) {
            None => value,
            Some(holds) => format!("if {holds} {{ {value} }} else {{ {} }}", default_of(field)),
        };
        let _ = writeln!(fields, "{}: {value},", field.name);
    }
    let v = if uses_version(&fields) { "v" } else { "_v" };
    let rng = if fields.contains("rng") { "rng" } else { "_rng" };
    format!("pub fn sample({rng}: &mut Rng, {v}: i16) -> Self {{\nSelf {{ {fields} }}\n}}\n")
}

fn sample_value(kind: &Type) -> String {
    match kind {
        Type::Bool => "samples::number(rng) % 2 == 0".into(),
        Type::I8 => "samples::number(rng) as i8".into(),
        Type::I16 => "samples::number(rng) as i16".into(),
        Type::I32 => "samples::number(rng) as i32".into(),
        Type::I64 => "samples::number(rng)".into(),
        Type::Uuid => "samples::uuid(rng)".into(),
        Type::String => "samples::string(rng)".into(),
        Type::Bytes => "samples::bytes(rng)".into(),
        Type::Secret => "samples::secret(rng)".into(),
        Type::Struct(item) => format!("{}::sample(rng, v)", item.name),
        Type::Array(element) => format!("samples::array(rng, |rng| {})", sample_value(element)),
    }
}
