//! Where packages come from: the npm registry of this machine's configuration, and how to reach it.
//!
//! Settings are read as npm reads them: `npm_config_*` variables first, then the `.npmrc` files of the project, the
//! user and the installation, then npm's own default. Taken from there are registries, their credentials, proxies and
//! the certificate authority; everything else in those files stays out of a build. `strict-ssl=false` is not honoured.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use npmrc_config_rs::registry::parse_registry_url;
use npmrc_config_rs::{Credentials, LoadOptions, NpmrcConfig, global_prefix_from, nerf_dart};

use crate::{Environment, ImageError, Package};

/// Variables that say how to reach the network; a build's programs get these and no others.
pub(crate) const NETWORK_VARIABLES: [&str; 11] = [
    "ALL_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NODE_EXTRA_CA_CERTS",
    "NO_PROXY",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// One registry.
#[derive(Clone)]
pub(crate) struct Registry {
    /// Its address, with a slash at the end.
    address: String,
    /// Its host name.
    pub(crate) host: String,
    /// The value of the `Authorization` field; secret.
    pub(crate) authorization: Option<String>,
}

impl Registry {
    /// Where a package's archive is: the address that every registry and mirror answers at.
    pub(crate) fn archive(&self, package: &Package) -> String {
        let file = package.name.rsplit_once('/').map_or(package.name.as_str(), |(_, file)| file);
        format!("{}{}/-/{file}-{}.tgz", self.address, package.name, package.version)
    }

    /// Where it says what it knows of a package's version.
    pub(crate) fn told(&self, package: &Package) -> String {
        format!("{}{}/{}", self.address, package.name, package.version)
    }
}

/// The registries of this machine's configuration, and how to reach them.
pub(crate) struct Registries {
    files: NpmrcConfig,
    /// The registry of unscoped packages, when a variable says it.
    overriding: Option<String>,
    /// The proxy that npm's settings name. Without one, the proxy variables decide.
    pub(crate) proxy: Option<String>,
    no_proxy: Option<String>,
    /// PEM file of the only certificate authorities to trust, when npm's settings name one.
    pub(crate) authorities: Option<PathBuf>,
}

impl Registries {
    /// Reads the configuration.
    pub(crate) fn load(environment: &Environment) -> Result<Self, ImageError> {
        let home = environment.get("HOME").map(|home| Path::new(home).join(".npmrc"));
        let user_config = environment.npm("userconfig").map(PathBuf::from).or(home);
        let prefix = environment.npm("prefix").or_else(|| environment.get("PREFIX"));
        let node = find_on_path(environment, "node");
        let global_prefix = global_prefix_from(prefix, node.as_deref(), environment.get("DESTDIR"), false);
        // Options left `None` would be filled from this process's own environment.
        let options = LoadOptions {
            skip_user: user_config.is_none(),
            skip_global: global_prefix.is_none(),
            user_config,
            global_prefix,
            ..LoadOptions::default()
        };
        let files = NpmrcConfig::load_with_options(options)
            .map_err(|error| ImageError::Registry { reason: error.to_string() })?;
        let setting = |name: &str| environment.npm(name).or_else(|| files.get(name)).map(str::to_owned);
        Ok(Self {
            overriding: environment.npm("registry").map(str::to_owned),
            proxy: setting("https-proxy").or_else(|| setting("proxy")).filter(|proxy| proxy != "null"),
            no_proxy: setting("noproxy"),
            authorities: setting("cafile").filter(|path| path != "null").map(PathBuf::from),
            files,
        })
    }

    /// The registry a package comes from.
    pub(crate) fn of(&self, package: &str) -> Result<Registry, ImageError> {
        let scope = package.starts_with('@').then(|| package.split('/').next()).flatten();
        let scoped = scope.is_some_and(|scope| self.files.get(&format!("{scope}:registry")).is_some());
        let url = match &self.overriding {
            Some(address) if !scoped => {
                parse_registry_url(address).map_err(|error| ImageError::Registry { reason: error.to_string() })?
            }
            _ => self.files.registry_for(package),
        };
        if !matches!(url.scheme(), "https" | "http") {
            return Err(ImageError::Registry { reason: format!("{} is not a web address", url.scheme()) });
        }
        let authorization = match self.files.credentials_for(&url) {
            None => None,
            Some(Credentials::Token { token, cert: None }) => Some(format!("Bearer {token}")),
            Some(Credentials::BasicAuth { username, password, cert: None }) => {
                Some(format!("Basic {}", BASE64.encode(format!("{username}:{password}"))))
            }
            Some(Credentials::LegacyAuth { auth, cert: None, .. }) => Some(format!("Basic {auth}")),
            Some(_) => {
                let reason = "client certificates for registries are not supported".to_owned();
                return Err(ImageError::Registry { reason });
            }
        };
        let host = url.host_str().unwrap_or_default().to_owned();
        Ok(Registry { address: url.to_string(), host, authorization })
    }

    /// The text of a `.npmrc` with these registries and nothing else of the operator's. Holds secrets: mode 0600.
    pub(crate) fn to_npmrc(&self) -> Result<String, ImageError> {
        let mut lines = String::new();
        let scopes = self.files.scoped_registries();
        let default = self.of("")?;
        let mut write = |key: &str, value: &str| {
            if value.contains(['\n', '\r']) {
                return Err(ImageError::Registry { reason: format!("the value of {key} has two lines") });
            }
            writeln!(lines, "{key}={value}").expect("writing to memory does not fail");
            Ok(())
        };
        write("registry", &default.address)?;
        let mut known = vec![default];
        for scope in scopes.keys() {
            let registry = self.of(&format!("{scope}/any"))?;
            write(&format!("{scope}:registry"), &registry.address)?;
            known.push(registry);
        }
        for registry in &known {
            let url = parse_registry_url(&registry.address).expect("an address of ours was a URL before");
            match registry.authorization.as_deref().and_then(|value| value.split_once(' ')) {
                Some(("Bearer", token)) => write(&format!("{}:_authToken", nerf_dart(&url)), token)?,
                Some((_, basic)) => write(&format!("{}:_auth", nerf_dart(&url)), basic)?,
                None => {}
            }
        }
        let authorities = self.authorities.as_deref().and_then(Path::to_str);
        for (key, value) in [
            ("https-proxy", self.proxy.as_deref()),
            ("proxy", self.proxy.as_deref()),
            ("noproxy", self.no_proxy.as_deref()),
            ("cafile", authorities),
        ] {
            value.map_or(Ok(()), |value| write(key, value))?;
        }
        Ok(lines)
    }
}

/// A program's path, looked for as a shell does.
fn find_on_path(environment: &Environment, program: &str) -> Option<PathBuf> {
    std::env::split_paths(environment.get("PATH")?).map(|folder| folder.join(program)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn registries(npmrc: &str, variables: &[(&str, &str)]) -> Registries {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(".npmrc"), npmrc).unwrap();
        let home = home.path().to_str().unwrap();
        Registries::load(&[("HOME", home)].iter().chain(variables).copied().collect()).unwrap()
    }

    fn package(name: &str) -> Package {
        let text = format!(
            r#"{{"part":"application","name":"{name}","version":"1.2.3","bytes":1,"integrity":"sha512-{}=="}}"#,
            "A".repeat(86)
        );
        serde_json::from_str(&text).unwrap()
    }

    const NPMRC: &str = "\
        registry=https://packages.example/npm\n\
        nodedir=/usr\n\
        @team:registry=https://team.example/\n\
        //packages.example/npm/:_authToken=secret\n\
        //team.example/:_auth=dTpw\n";

    #[test]
    fn files_name_registries_and_credentials() {
        let registries = registries(NPMRC, &[]);
        let registry = registries.of("ghost").unwrap();
        assert_eq!(registry.archive(&package("ghost")), "https://packages.example/npm/ghost/-/ghost-1.2.3.tgz");
        assert_eq!(
            (registry.host.as_str(), registry.authorization.as_deref()),
            ("packages.example", Some("Bearer secret"))
        );
        let registry = registries.of("@team/a.b").unwrap();
        assert_eq!(registry.archive(&package("@team/a.b")), "https://team.example/@team/a.b/-/a.b-1.2.3.tgz");
        assert_eq!(registry.authorization.as_deref(), Some("Basic dTpw"));
    }

    #[test]
    fn a_variable_overrides_files_and_gets_no_foreign_token() {
        for name in ["NPM_CONFIG_REGISTRY", "npm_config_registry"] {
            let registry = registries(NPMRC, &[(name, "http://127.0.0.1:9/x")]).of("ghost").unwrap();
            assert_eq!((registry.address.as_str(), registry.authorization), ("http://127.0.0.1:9/x/", None));
        }
    }

    #[test]
    fn without_settings_npm_has_a_default() {
        let registry = registries("", &[]).of("ghost").unwrap();
        assert!(registry.address.starts_with("https://") && registry.authorization.is_none());
    }

    #[test]
    fn the_private_configuration_holds_registries_and_nothing_else() {
        insta::assert_snapshot!(registries(NPMRC, &[("npm_config_cafile", "/ca.pem")]).to_npmrc().unwrap(), @r"
        registry=https://packages.example/npm/
        @team:registry=https://team.example/
        //packages.example/npm/:_authToken=secret
        //team.example/:_auth=dTpw
        cafile=/ca.pem
        ");
    }

    #[test]
    fn addresses_that_cannot_be_asked_are_refused() {
        for address in ["file:///packages", "no address"] {
            let registries = registries("", &[("npm_config_registry", address)]);
            assert!(matches!(registries.of("ghost"), Err(ImageError::Registry { .. })), "{address}");
        }
    }
}
