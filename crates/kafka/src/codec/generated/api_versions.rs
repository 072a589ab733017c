//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! Which requests, versions and features this broker knows (KIP-35, KIP-511, KIP-584).
//! Its response header is version 0 even where the body is flexible: a client reads it before it can know.

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Request {
    pub client_software_name: String,
    pub client_software_version: String,
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let client_software_name = if v >= 3 { r.string(true)? } else { String::new() };
        let client_software_version = if v >= 3 { r.string(true)? } else { String::new() };
        if v >= 3 {
            r.skip_tags()?;
        }
        Ok(Self { client_software_name, client_software_version })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        if v >= 3 {
            w.string(&self.client_software_name, true);
        }
        if v >= 3 {
            w.string(&self.client_software_version, true);
        }
        if v >= 3 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            client_software_name: if v >= 3 { samples::string(rng) } else { String::new() },
            client_software_version: if v >= 3 { samples::string(rng) } else { String::new() },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ApiVersion {
    pub api_key: i16,
    pub min_version: i16,
    pub max_version: i16,
}

impl ApiVersion {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i16(self.api_key);
        w.i16(self.min_version);
        w.i16(self.max_version);
        if v >= 3 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl ApiVersion {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let api_key = r.i16()?;
        let min_version = r.i16()?;
        let max_version = r.i16()?;
        if v >= 3 {
            r.skip_tags()?;
        }
        Ok(Self { api_key, min_version, max_version })
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self {
            api_key: samples::number(rng) as i16,
            min_version: samples::number(rng) as i16,
            max_version: samples::number(rng) as i16,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SupportedFeature {
    pub name: String,
    pub min_version: i16,
    pub max_version: i16,
}

impl SupportedFeature {
    pub fn encode(&self, w: &mut Writer<'_>, _v: i16) {
        w.string(&self.name, true);
        w.i16(self.min_version);
        w.i16(self.max_version);
        w.no_tags();
    }
}

#[cfg(test)]
impl SupportedFeature {
    pub fn decode(r: &mut Reader<'_>, _v: i16) -> Result<Self, Malformed> {
        let name = r.string(true)?;
        let min_version = r.i16()?;
        let max_version = r.i16()?;
        r.skip_tags()?;
        Ok(Self { name, min_version, max_version })
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self {
            name: samples::string(rng),
            min_version: samples::number(rng) as i16,
            max_version: samples::number(rng) as i16,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FinalizedFeature {
    pub name: String,
    pub max_version_level: i16,
    pub min_version_level: i16,
}

impl FinalizedFeature {
    pub fn encode(&self, w: &mut Writer<'_>, _v: i16) {
        w.string(&self.name, true);
        w.i16(self.max_version_level);
        w.i16(self.min_version_level);
        w.no_tags();
    }
}

#[cfg(test)]
impl FinalizedFeature {
    pub fn decode(r: &mut Reader<'_>, _v: i16) -> Result<Self, Malformed> {
        let name = r.string(true)?;
        let max_version_level = r.i16()?;
        let min_version_level = r.i16()?;
        r.skip_tags()?;
        Ok(Self { name, max_version_level, min_version_level })
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self {
            name: samples::string(rng),
            max_version_level: samples::number(rng) as i16,
            min_version_level: samples::number(rng) as i16,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub error_code: i16,
    pub api_keys: Vec<ApiVersion>,
    pub throttle_time_ms: i32,
    pub supported_features: Vec<SupportedFeature>,
    /// Clients ignore the finalized features while this is negative.
    pub finalized_features_epoch: i64,
    pub finalized_features: Vec<FinalizedFeature>,
}

impl Default for Response {
    fn default() -> Self {
        Self {
            error_code: 0,
            api_keys: Vec::new(),
            throttle_time_ms: 0,
            supported_features: Vec::new(),
            finalized_features_epoch: -1,
            finalized_features: Vec::new(),
        }
    }
}

impl Response {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i16(self.error_code);
        w.array(&self.api_keys, v >= 3, |w, x| x.encode(w, v));
        if v >= 1 {
            w.i32(self.throttle_time_ms);
        }
        if v >= 3 {
            w.uvarint(
                u32::from(!self.supported_features.is_empty())
                    + u32::from(self.finalized_features_epoch != -1)
                    + u32::from(!self.finalized_features.is_empty()),
            );
            if !self.supported_features.is_empty() {
                w.tag(0, |w| {
                    w.array(&self.supported_features, true, |w, x| x.encode(w, v));
                });
            }
            if self.finalized_features_epoch != -1 {
                w.tag(1, |w| {
                    w.i64(self.finalized_features_epoch);
                });
            }
            if !self.finalized_features.is_empty() {
                w.tag(2, |w| {
                    w.array(&self.finalized_features, true, |w, x| x.encode(w, v));
                });
            }
        }
    }
}

#[cfg(test)]
impl Response {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let error_code = r.i16()?;
        let api_keys = r.array(v >= 3, 6, |r| ApiVersion::decode(r, v))?;
        let throttle_time_ms = if v >= 1 { r.i32()? } else { 0 };
        let mut supported_features = Vec::new();
        let mut finalized_features_epoch = -1;
        let mut finalized_features = Vec::new();
        if v >= 3 {
            r.tags(|tag, r| {
                match tag {
                    0 => {
                        supported_features = r.array(true, 6, |r| SupportedFeature::decode(r, v))?
                    }
                    1 => finalized_features_epoch = r.i64()?,
                    2 => {
                        finalized_features = r.array(true, 6, |r| FinalizedFeature::decode(r, v))?
                    }
                    _ => return Ok(false),
                }
                Ok(true)
            })?;
        }
        Ok(Self {
            error_code,
            api_keys,
            throttle_time_ms,
            supported_features,
            finalized_features_epoch,
            finalized_features,
        })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            error_code: samples::number(rng) as i16,
            api_keys: samples::array(rng, |rng| ApiVersion::sample(rng, v)),
            throttle_time_ms: if v >= 1 { samples::number(rng) as i32 } else { 0 },
            supported_features: if v >= 3 {
                samples::array(rng, |rng| SupportedFeature::sample(rng, v))
            } else {
                Vec::new()
            },
            finalized_features_epoch: if v >= 3 { samples::number(rng) } else { -1 },
            finalized_features: if v >= 3 {
                samples::array(rng, |rng| FinalizedFeature::sample(rng, v))
            } else {
                Vec::new()
            },
        }
    }
}
