//! The words of the stack, as types: what an operator declares, what was seen, what would be done.
//!
//! Promise: a value of a type in this crate is valid. Text becomes a value through a parser that reports every
//! problem at once. Nothing here performs I/O, reads a clock or knows a network; CI checks the dependency tree.

pub mod access_entry;
pub mod agent_config;
pub mod agent_status;
pub mod archive_copy;
pub mod authority;
pub mod digest;
pub mod dns_message;
pub mod dns_record;
pub mod edge_config;
pub mod edge_name;
pub mod edge_rules;
pub mod edge_status;
pub mod file;
pub mod file_set;
pub mod instance;
pub mod interval;
pub mod keep_rules;
pub mod layout;
pub mod name;
pub mod name_server_config;
pub mod name_server_status;
pub mod names;
pub mod network;
pub mod observed;
pub mod provider;
pub mod renewer_config;
pub mod renewer_status;
pub mod renewer_word;
pub mod secondary;
pub mod size;
pub mod ssh;
pub mod stack;
pub mod step;
pub mod trial;
pub mod unit;

pub use digest::Digest;
pub use dns_record::DnsRecord;
pub use edge_name::EdgeName;
pub use file::parse;
pub use file_set::{FileSeen, FileSet};
pub use interval::Interval;
pub use layout::StateFolder;
pub use name::{
    AuthorityName, CopyName, DatacenterName, DnsName, DomainName, HostName, ImageName, InvalidName, Origin,
    ProviderName, SecondaryName, SiteName, StackName, UnitName,
};
pub use network::Network;
pub use observed::Observed;
pub use size::ByteSize;
pub use stack::Stack;
pub use step::{Step, StepId};
