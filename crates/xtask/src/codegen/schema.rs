//! The schema notation and its parser. One file per request, indentation (two spaces) nests:
//!
//! ```text
//! # What the request is for.
//! api KEY NAME versions MIN-MAX flexible FIRST|none [handwritten]
//! request
//!   FIELD TYPE [VERSIONS] [nullable=VERSIONS] [default=VALUE] [tag=N] [# meaning]
//! response
//!   ...
//! ```
//!
//! VERSIONS is `A`, `A+` or `A-B`; left out, it is the parent's. TYPE is a primitive, the name of a
//! nested struct, or either with `[]` before it.

/// A closed range of protocol versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub min: i16,
    pub max: i16,
}

impl Versions {
    fn parse(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<i16>().map_err(|_| format!("no version: {text}"));
        if let Some(min) = text.strip_suffix('+') {
            return Ok(Versions { min: number(min)?, max: i16::MAX });
        }
        let (min, max) = text.split_once('-').unwrap_or((text, text));
        Ok(Versions { min: number(min)?, max: number(max)? })
    }

    pub fn within(self, other: Versions) -> Versions {
        Versions { min: self.min.max(other.min), max: self.max.min(other.max) }
    }

    pub fn is_empty(self) -> bool {
        self.min > self.max
    }

    pub fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    Bool,
    I8,
    I16,
    I32,
    I64,
    Uuid,
    String,
    Bytes,
    /// Bytes that must not be shown: never nullable.
    Secret,
    Struct(Struct),
    Array(Box<Type>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Struct {
    pub name: String,
    /// The versions in which the struct occurs at all.
    pub versions: Versions,
    pub fields: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub kind: Type,
    /// Already cut down to the versions of the enclosing struct.
    pub versions: Versions,
    pub nullable: Option<Versions>,
    pub default: Option<String>,
    pub tag: Option<u32>,
    pub doc: String,
}

#[derive(Debug)]
pub struct Api {
    pub module: String,
    pub key: i16,
    pub name: String,
    pub doc: Vec<String>,
    pub versions: Versions,
    pub flexible: Option<i16>,
    pub handwritten: bool,
    pub request: Struct,
    pub response: Struct,
}

impl Api {
    pub fn is_flexible(&self, version: i16) -> bool {
        self.flexible.is_some_and(|first| version >= first)
    }
}

struct Line<'a> {
    number: usize,
    depth: usize,
    text: &'a str,
}

pub fn parse(module: &str, text: &str) -> Result<Api, String> {
    let mut doc = Vec::new();
    let mut lines = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        let content = raw.trim_start_matches(' ');
        if content.is_empty() {
            continue;
        }
        if let Some(comment) = content.strip_prefix('#') {
            doc.push(comment.trim().to_string());
            continue;
        }
        lines.push(Line {
            number: index + 1,
            depth: (raw.len() - content.len()) / 2,
            text: content,
        });
    }
    let (head, rest) = lines.split_first().ok_or("empty schema")?;
    let mut api = parse_head(module, head.text)?;
    api.doc = doc;
    let mut rest = rest;
    while let Some((line, below)) = rest.split_first() {
        let (fields, left) = parse_fields(below, 1, api.versions)?;
        match line.text {
            "request" if line.depth == 0 => api.request.fields = fields,
            "response" if line.depth == 0 => api.response.fields = fields,
            other => return Err(format!("line {}: unexpected {other}", line.number)),
        }
        rest = left;
    }
    Ok(api)
}

fn parse_head(module: &str, text: &str) -> Result<Api, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let ["api", key, name, "versions", versions, "flexible", flexible, mark @ ..] = &words[..]
    else {
        return Err(format!("not an api line: {text}"));
    };
    let versions = Versions::parse(versions)?;
    let empty = |name: &str| Struct { name: name.to_string(), versions, fields: Vec::new() };
    Ok(Api {
        module: module.to_string(),
        key: key.parse().map_err(|_| format!("no api key: {key}"))?,
        name: (*name).to_string(),
        doc: Vec::new(),
        versions,
        flexible: match *flexible {
            "none" => None,
            first => Some(first.parse().map_err(|_| format!("no version: {first}"))?),
        },
        handwritten: *mark == ["handwritten"],
        request: empty("Request"),
        response: empty("Response"),
    })
}

type Parsed<'a, 'b, T> = Result<(T, &'a [Line<'b>]), String>;

fn parse_fields<'a, 'b>(
    mut lines: &'a [Line<'b>],
    depth: usize,
    parent: Versions,
) -> Parsed<'a, 'b, Vec<Field>> {
    let mut fields = Vec::new();
    while let Some((line, below)) = lines.split_first() {
        if line.depth < depth {
            break;
        }
        if line.depth > depth {
            return Err(format!("line {}: indented too far", line.number));
        }
        let (field, left) = parse_field(line, below, depth, parent)
            .map_err(|e| format!("line {}: {e}", line.number))?;
        fields.push(field);
        lines = left;
    }
    Ok((fields, lines))
}

fn parse_field<'a, 'b>(
    line: &Line<'b>,
    below: &'a [Line<'b>],
    depth: usize,
    parent: Versions,
) -> Parsed<'a, 'b, Field> {
    let (definition, doc) = line.text.split_once(" # ").unwrap_or((line.text, ""));
    let mut words = definition.split_whitespace();
    let name = words.next().ok_or("a field has a name")?;
    let type_name = words.next().ok_or("a field has a type")?;
    let mut field = Field {
        name: name.to_string(),
        kind: Type::Bool,
        versions: parent,
        nullable: None,
        default: None,
        tag: None,
        doc: doc.trim().to_string(),
    };
    for word in words {
        match word.split_once('=') {
            None => field.versions = Versions::parse(word)?.within(parent),
            Some(("nullable", versions)) => field.nullable = Some(Versions::parse(versions)?),
            Some(("default", value)) => field.default = Some(value.to_string()),
            Some(("tag", tag)) => {
                field.tag = Some(tag.parse().map_err(|_| format!("no tag: {tag}"))?);
            }
            Some((other, _)) => return Err(format!("unknown attribute {other}")),
        }
    }
    if field.versions.is_empty() {
        return Err(format!("{name} occurs in no advertised version"));
    }
    field.nullable = field.nullable.map(|v| v.within(field.versions)).filter(|v| !v.is_empty());
    let (kind, left) = parse_type(type_name, below, depth, field.versions)?;
    field.kind = kind;
    Ok((field, left))
}

fn parse_type<'a, 'b>(
    name: &str,
    below: &'a [Line<'b>],
    depth: usize,
    versions: Versions,
) -> Parsed<'a, 'b, Type> {
    if let Some(element) = name.strip_prefix("[]") {
        let (element, left) = parse_type(element, below, depth, versions)?;
        return Ok((Type::Array(Box::new(element)), left));
    }
    let primitive = match name {
        "bool" => Type::Bool,
        "i8" => Type::I8,
        "i16" => Type::I16,
        "i32" => Type::I32,
        "i64" => Type::I64,
        "uuid" => Type::Uuid,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "secret" => Type::Secret,
        _ if name.starts_with(|c: char| c.is_ascii_uppercase()) => {
            let (fields, left) = parse_fields(below, depth + 1, versions)?;
            let name = name.to_string();
            return Ok((Type::Struct(Struct { name, versions, fields }), left));
        }
        _ => return Err(format!("unknown type {name}")),
    };
    Ok((primitive, below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_versions_are_cut_to_the_parents() {
        let text = "# Doc.\napi 3 X versions 0-9 flexible 5\nrequest\n  a []B 2-7 nullable=4+ # why\n    c i32 6+ default=-1\n  d string\nresponse\n";
        let api = parse("x", text).expect("valid");
        let field = &api.request.fields[0];
        assert_eq!((field.versions.min, field.versions.max), (2, 7));
        assert_eq!(field.nullable, Some(Versions { min: 4, max: 7 }));
        assert_eq!(field.doc, "why");
        let Type::Array(element) = &field.kind else { panic!("an array") };
        let Type::Struct(inner) = &**element else { panic!("of structs") };
        assert_eq!((inner.fields[0].versions.min, inner.fields[0].versions.max), (6, 7));
        assert_eq!(api.request.fields[1].name, "d");
    }

    #[test]
    fn mistakes_are_named() {
        for text in [
            "",
            "api 3 X versions 0-9\n",
            "api 3 X versions 0-9 flexible 5\nrequest\n  a\n",
            "api 3 X versions 0-9 flexible 5\nrequest\n  a float\n",
            "api 3 X versions 0-9 flexible 5\nrequest\n  a i32 10+\n",
            "api 3 X versions 0-9 flexible 5\nrequest\n  a i32 sometimes=3\n",
            "api 3 X versions 0-9 flexible 5\nrequest\n      a i32\n",
            "api 3 X versions 0-9 flexible 5\nanswer\n",
        ] {
            assert!(parse("x", text).is_err(), "{text}");
        }
    }
}
