//! Where a call came from and with what: network of an address, family of a user agent.

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// A network, as a number that spells itself: tag, then address bits.
///
/// /24 of a public IPv4 address, /16 of a private one (pods and hosts move within it), /48 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Network(pub u64);

const PUBLIC_V4: u64 = 1 << 56;
const PRIVATE_V4: u64 = 2 << 56;
const V6: u64 = 3 << 56;
const PRIVATE_V6: u64 = 4 << 56;
const HOST_V4: u64 = 5 << 56;
const TAG: u64 = 0xff << 56;
/// Marks the number of a wide network.
const WIDE: u64 = 1 << 55;

impl Network {
    /// The network of an address, and of a private IPv4 address the host or pod beside it, which else
    /// is the network again. `None` for what is no address.
    pub fn with_host(address: &str) -> Option<(Self, Self)> {
        let address: IpAddr = address.parse().ok()?;
        Some(match address.to_canonical() {
            IpAddr::V4(v4) => {
                let bits = u64::from(v4.to_bits());
                let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
                if v4.is_private() || v4.is_loopback() || v4.is_link_local() || shared {
                    (Self(PRIVATE_V4 | (bits & 0xffff_0000)), Self(HOST_V4 | bits))
                } else {
                    let network = Self(PUBLIC_V4 | (bits & 0xffff_ff00));
                    (network, network)
                }
            }
            IpAddr::V6(v6) => {
                let high = (v6.to_bits() >> 80) as u64;
                let local = v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local();
                let network = Self(if local { PRIVATE_V6 } else { V6 } | high);
                (network, network)
            }
        })
    }

    pub fn is_private(self) -> bool {
        matches!(self.0 & TAG, PRIVATE_V4 | PRIVATE_V6)
    }

    pub fn is_wide(self) -> bool {
        self.0 & WIDE != 0
    }

    pub fn is_host(self) -> bool {
        self.0 & TAG == HOST_V4
    }

    /// The /16 or /32 around it; all private networks are one, and a host is its own.
    pub fn wide(self) -> u64 {
        match self.0 & TAG {
            HOST_V4 => self.0,
            PUBLIC_V4 | V6 => self.0 & !0xffff | WIDE,
            tag => tag | WIDE,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0 & !TAG & !WIDE;
        match self.0 & TAG {
            PUBLIC_V4 => write!(f, "{}/24", Ipv4Addr::from_bits(bits as u32)),
            PRIVATE_V4 => write!(f, "{}/16", Ipv4Addr::from_bits(bits as u32)),
            HOST_V4 => write!(f, "{}", Ipv4Addr::from_bits(bits as u32)),
            _ => write!(f, "{}/48", Ipv6Addr::from_bits(u128::from(bits) << 80)),
        }
    }
}

/// What a user agent says of the tool and of the machine under it, without versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// Stands for family and platform.
    pub key: u64,
    /// `aws-cli`, `boto3`, `terraform`, `kubectl` …, as the user agent spells it.
    pub family: Arc<str>,
    /// `linux`, `macos`, `windows`, `lambda`, `container` or empty.
    pub platform: &'static str,
    /// A person in front of a browser or a provider's console.
    pub browser: bool,
    /// The word that tells a tool made for breaking in or for finding lost keys, or an attacker's
    /// distribution.
    pub offensive: Option<&'static str>,
    /// Builds infrastructure from a description: asks for everything, and who it is.
    pub builder: bool,
}

/// Tools that were read already, by a hash of the whole user agent. It only saves time.
#[derive(Debug, Default)]
pub struct Tools {
    read: FxHashMap<u64, Option<Tool>>,
}

impl Tools {
    const MAX: usize = 16_384;

    /// The tool of `user_agent`, whose key is `key`.
    pub fn read(&mut self, user_agent: &str, key: u64) -> Option<Tool> {
        if self.read.len() >= Self::MAX {
            self.read.clear();
        }
        self.read.entry(key).or_insert_with(|| Tool::of(user_agent)).clone()
    }
}

/// Families that sit behind other words in a user agent.
const INNER: &[&str] = &["Terraform", "Pulumi", "terraform-provider", "crossplane", "eksctl"];
const BUILDERS: &[&str] =
    &["terraform", "pulumi", "helm", "ansible", "crossplane", "eksctl", "cloudformation", "cdk"];
const OFFENSIVE: &[&str] = &[
    "kali",
    "parrot",
    "pentoo",
    "blackarch",
    "stratus-red-team",
    "pacu",
    "trufflehog",
    "cloudfox",
    "nuclei",
    "sqlmap",
    "gitleaks",
    "enumerate-iam",
    "weirdaal",
    "peirates",
];

impl Tool {
    /// Bytes of a user agent that are looked at.
    const MAX_BYTES: usize = 1024;

    /// `None` for an empty user agent.
    pub fn of(user_agent: &str) -> Option<Self> {
        // Whoever calls writes it, at any length.
        let text = &user_agent[..user_agent.floor_char_boundary(Self::MAX_BYTES)];
        let text = without_calls(text.trim_start_matches(['[', ' ', '"']));
        let text = text.as_ref();
        let outer = product(text);
        let family = INNER
            .iter()
            .find_map(|inner| text.find(inner).map(|at| product(&text[at..])))
            .unwrap_or(outer);
        if family.is_empty() {
            return None;
        }
        let platform = if has(text, "lambda") {
            "lambda"
        } else if has(text, "aws_ecs") || has(text, "exec-env/kubernetes") {
            "container"
        } else if has(text, "darwin") || has(text, "macos") || has(text, "macintosh") {
            "macos"
        } else if has(text, "windows") || has(text, "win32") {
            "windows"
        } else if has(text, "linux") {
            "linux"
        } else {
            ""
        };
        Some(Self {
            key: key_of(family, platform),
            family: family.into(),
            platform,
            browser: outer.eq_ignore_ascii_case("Mozilla")
                || has(text, "console")
                || has(text, "signin.amazonaws.com"),
            offensive: OFFENSIVE.iter().copied().find(|word| has(text, word)),
            builder: BUILDERS.iter().any(|word| has(family, word)),
        })
    }
}

/// The key of a tool: its family in any case, and its platform.
fn key_of(family: &str, platform: &str) -> u64 {
    xxh3_64(family.to_ascii_lowercase().as_bytes()) ^ xxh3_64(platform.as_bytes())
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.family)?;
        if !self.platform.is_empty() {
            write!(f, " on {}", self.platform)?;
        }
        Ok(())
    }
}

/// A user agent without the words in which SDKs of AWS say what they call, which is no tool:
/// `api/lambda#1.45.0`, `md/command#ec2.get-console-output`, `command/s3.ls`.
fn without_calls(text: &str) -> Cow<'_, str> {
    let is_call = |word: &&str| {
        ["api/", "command/", "md/command#"].iter().any(|prefix| word.starts_with(prefix))
    };
    if !text.split(' ').any(|word| is_call(&word)) {
        return text.into();
    }
    text.split(' ').filter(|word| !is_call(word)).collect::<Vec<_>>().join(" ").into()
}

/// The first product of a user agent without its version: letters, and digits that stand in the
/// name (`boto3`); not a run's own id after an underscore, not a major version (`-v2`).
fn product(text: &str) -> &str {
    let end = text.find(['/', ' ', ';', '(', '[', ',', ']', '#']).unwrap_or(text.len());
    let mut name = &text[..end];
    if let Some(at) = name.find('_')
        && name[at + 1..].len() >= 8
        && name[at + 1..].bytes().filter(u8::is_ascii_digit).count() >= 3
    {
        name = &name[..at];
    }
    if let Some((stem, major)) = name.rsplit_once("-v")
        && !major.is_empty()
        && major.bytes().all(|b| b.is_ascii_digit())
    {
        name = stem;
    }
    name
}

/// Whether `text` contains the lower-case `word` in any case.
fn has(text: &str, word: &str) -> bool {
    let (text, word) = (text.as_bytes(), word.as_bytes());
    let first = [word[0], word[0].to_ascii_uppercase()];
    text.len() >= word.len()
        && (0..=text.len() - word.len()).any(|at| {
            first.contains(&text[at]) && text[at..at + word.len()].eq_ignore_ascii_case(word)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(text: &str) -> String {
        Tool::of(text).map_or_else(String::new, |tool| tool.to_string())
    }

    #[test]
    fn of_a_user_agent_without_end_the_beginning_counts() {
        let long = format!("{}{}", "é".repeat(700), " Linux".repeat(100_000));
        assert_eq!(tool(&long), "é".repeat(512));
    }

    #[test]
    fn an_upgrade_is_the_same_tool() {
        assert_eq!(
            Tool::of("Boto3/1.26.165 Python/3.10.6 Linux/5.19 Botocore/1.29").map(|t| t.key),
            Tool::of("Boto3/1.40.1 md/Botocore#1.40 os/linux#6.1 lang/python#3.12").map(|t| t.key),
        );
        assert_eq!(tool("aws-sdk-go-v2/1.17.0 os/linux"), tool("aws-sdk-go/1.41.4 (linux)"));
    }

    #[test]
    fn families_are_read_from_real_shapes() {
        assert_eq!(
            tool("[APN/1.0 HashiCorp/1.0 Terraform/1.1.2 (+https://www.terraform.io)]"),
            "Terraform"
        );
        assert_eq!(tool("[aws-cli/1.18.136 Python/3.8.5 Darwin/19.5.0]"), "aws-cli on macos");
        assert_eq!(tool("kubectl/v1.28.2 (linux/amd64) kubernetes/89a4ea3"), "kubectl on linux");
        assert_eq!(tool(""), "");
        assert_eq!(
            tool("Boto3/1.34 exec-env/AWS_Lambda_python3.12 Botocore/1.34"),
            "Boto3 on lambda"
        );
        // What it calls is not where it runs.
        let calls = "aws-sdk-go-v2/1.30.3 os/linux lang/go#1.22 md/GOOS#linux api/lambda#1.45.0";
        assert_eq!(tool(calls), "aws-sdk-go on linux");
        let calls = Tool::of("aws-cli/2.17 os/linux#6.1 md/command#ec2.get-console-output");
        assert!(calls.is_some_and(|tool| !tool.browser));
        assert_eq!(
            Tool::of("aws-cli/2.2 exec-env/x kali/2023").and_then(|t| t.offensive),
            Some("kali")
        );
    }

    #[test]
    fn networks_spell_themselves() {
        let network = |text: &str| Network::with_host(text).map(|(network, _)| network.to_string());
        assert_eq!(network("198.51.100.7").as_deref(), Some("198.51.100.0/24"));
        assert_eq!(network("10.1.2.3").as_deref(), Some("10.1.0.0/16"));
        assert_eq!(network("::ffff:10.1.2.3").as_deref(), Some("10.1.0.0/16"));
        assert_eq!(network("2001:db8:1:2::3").as_deref(), Some("2001:db8:1::/48"));
        assert_eq!(network("AWS Internal"), None);
        let host = |text: &str| Network::with_host(text).map(|(_, host)| host.to_string());
        assert_eq!(host("::ffff:10.1.2.3").as_deref(), Some("10.1.2.3"));
        assert_eq!(host("198.51.100.7").as_deref(), Some("198.51.100.0/24"));
    }
}
