//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! Every configuration key of topics, brokers and groups with its value and where that comes from.

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ResourceWanted {
    pub resource_type: i8,
    pub resource_name: String,
    /// Null means all keys.
    pub configuration_keys: Option<Vec<String>>,
}

impl ResourceWanted {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let resource_type = r.i8()?;
        let resource_name = r.string(v >= 4)?;
        let configuration_keys = r.nullable_array(v >= 4, 1, |r| r.string(v >= 4))?;
        if v >= 4 {
            r.skip_tags()?;
        }
        Ok(Self { resource_type, resource_name, configuration_keys })
    }
}

#[cfg(test)]
impl ResourceWanted {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i8(self.resource_type);
        w.string(&self.resource_name, v >= 4);
        w.nullable_array(self.configuration_keys.as_deref(), v >= 4, |w, x| w.string(x, v >= 4));
        if v >= 4 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self {
            resource_type: samples::number(rng) as i8,
            resource_name: samples::string(rng),
            configuration_keys: samples::nullable(rng, |rng| {
                samples::array(rng, |rng| samples::string(rng))
            }),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Request {
    pub resources: Vec<ResourceWanted>,
    pub include_synonyms: bool,
    pub include_documentation: bool,
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let resources = r.array(v >= 4, 4, |r| ResourceWanted::decode(r, v))?;
        let include_synonyms = if v >= 1 { r.bool()? } else { false };
        let include_documentation = if v >= 3 { r.bool()? } else { false };
        if v >= 4 {
            r.skip_tags()?;
        }
        Ok(Self { resources, include_synonyms, include_documentation })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.array(&self.resources, v >= 4, |w, x| x.encode(w, v));
        if v >= 1 {
            w.bool(self.include_synonyms);
        }
        if v >= 3 {
            w.bool(self.include_documentation);
        }
        if v >= 4 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            resources: samples::array(rng, |rng| ResourceWanted::sample(rng, v)),
            include_synonyms: if v >= 1 { samples::number(rng) % 2 == 0 } else { false },
            include_documentation: if v >= 3 { samples::number(rng) % 2 == 0 } else { false },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Synonym {
    pub name: String,
    pub value: Option<String>,
    pub source: i8,
}

impl Synonym {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.name, v >= 4);
        w.nullable_string(self.value.as_deref(), v >= 4);
        w.i8(self.source);
        if v >= 4 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Synonym {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let name = r.string(v >= 4)?;
        let value = r.nullable_string(v >= 4)?;
        let source = r.i8()?;
        if v >= 4 {
            r.skip_tags()?;
        }
        Ok(Self { name, value, source })
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self {
            name: samples::string(rng),
            value: samples::nullable(rng, |rng| samples::string(rng)),
            source: samples::number(rng) as i8,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub name: String,
    pub value: Option<String>,
    pub read_only: bool,
    pub config_source: i8,
    pub is_default: bool,
    pub is_sensitive: bool,
    pub synonyms: Vec<Synonym>,
    pub config_type: i8,
    pub documentation: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: String::new(),
            value: None,
            read_only: false,
            config_source: -1,
            is_default: false,
            is_sensitive: false,
            synonyms: Vec::new(),
            config_type: 0,
            documentation: None,
        }
    }
}

impl Config {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.name, v >= 4);
        w.nullable_string(self.value.as_deref(), v >= 4);
        w.bool(self.read_only);
        if v >= 1 {
            w.i8(self.config_source);
        }
        if v == 0 {
            w.bool(self.is_default);
        }
        w.bool(self.is_sensitive);
        if v >= 1 {
            w.array(&self.synonyms, v >= 4, |w, x| x.encode(w, v));
        }
        if v >= 3 {
            w.i8(self.config_type);
        }
        if v >= 3 {
            w.nullable_string(self.documentation.as_deref(), v >= 4);
        }
        if v >= 4 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Config {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let name = r.string(v >= 4)?;
        let value = r.nullable_string(v >= 4)?;
        let read_only = r.bool()?;
        let config_source = if v >= 1 { r.i8()? } else { -1 };
        let is_default = if v == 0 { r.bool()? } else { false };
        let is_sensitive = r.bool()?;
        let synonyms =
            if v >= 1 { r.array(v >= 4, 4, |r| Synonym::decode(r, v))? } else { Vec::new() };
        let config_type = if v >= 3 { r.i8()? } else { 0 };
        let documentation = if v >= 3 { r.nullable_string(v >= 4)? } else { None };
        if v >= 4 {
            r.skip_tags()?;
        }
        Ok(Self {
            name,
            value,
            read_only,
            config_source,
            is_default,
            is_sensitive,
            synonyms,
            config_type,
            documentation,
        })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            name: samples::string(rng),
            value: samples::nullable(rng, |rng| samples::string(rng)),
            read_only: samples::number(rng) % 2 == 0,
            config_source: if v >= 1 { samples::number(rng) as i8 } else { -1 },
            is_default: if v == 0 { samples::number(rng) % 2 == 0 } else { false },
            is_sensitive: samples::number(rng) % 2 == 0,
            synonyms: if v >= 1 {
                samples::array(rng, |rng| Synonym::sample(rng, v))
            } else {
                Vec::new()
            },
            config_type: if v >= 3 { samples::number(rng) as i8 } else { 0 },
            documentation: if v >= 3 {
                samples::nullable(rng, |rng| samples::string(rng))
            } else {
                None
            },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Resource {
    pub error_code: i16,
    pub error_message: Option<String>,
    pub resource_type: i8,
    pub resource_name: String,
    pub configs: Vec<Config>,
}

impl Resource {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i16(self.error_code);
        w.nullable_string(self.error_message.as_deref(), v >= 4);
        w.i8(self.resource_type);
        w.string(&self.resource_name, v >= 4);
        w.array(&self.configs, v >= 4, |w, x| x.encode(w, v));
        if v >= 4 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Resource {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let error_code = r.i16()?;
        let error_message = r.nullable_string(v >= 4)?;
        let resource_type = r.i8()?;
        let resource_name = r.string(v >= 4)?;
        let configs = r.array(v >= 4, 7, |r| Config::decode(r, v))?;
        if v >= 4 {
            r.skip_tags()?;
        }
        Ok(Self { error_code, error_message, resource_type, resource_name, configs })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            error_code: samples::number(rng) as i16,
            error_message: samples::nullable(rng, |rng| samples::string(rng)),
            resource_type: samples::number(rng) as i8,
            resource_name: samples::string(rng),
            configs: samples::array(rng, |rng| Config::sample(rng, v)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Response {
    pub throttle_time_ms: i32,
    pub results: Vec<Resource>,
}

impl Response {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i32(self.throttle_time_ms);
        w.array(&self.results, v >= 4, |w, x| x.encode(w, v));
        if v >= 4 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Response {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let throttle_time_ms = r.i32()?;
        let results = r.array(v >= 4, 7, |r| Resource::decode(r, v))?;
        if v >= 4 {
            r.skip_tags()?;
        }
        Ok(Self { throttle_time_ms, results })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            throttle_time_ms: samples::number(rng) as i32,
            results: samples::array(rng, |rng| Resource::sample(rng, v)),
        }
    }
}
