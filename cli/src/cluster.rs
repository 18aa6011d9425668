//! The API server a command speaks to, and the namespace it means.

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::{
    args::{Global, PluginName},
    error::Error,
};

/// A connection to the API server.
#[derive(Clone)]
pub struct Cluster {
    /// The client.
    pub client: Client,
    config: Config,
    namespace: Option<String>,
}

impl Cluster {
    /// Reads the kubeconfig as kubectl does, and makes the client.
    ///
    /// # Errors
    /// When there is no usable kubeconfig.
    pub async fn connect(global: &Global) -> Result<Self, Error> {
        let mut config = read_config(global).await?;
        // Streams of logs are silent for as long as the plugin is.
        config.read_timeout = None;
        let client = Client::try_from(config.clone())
            .map_err(|source| Error::Kubeconfig(Box::new(source)))?;
        Ok(Self {
            client,
            config,
            namespace: global.namespace.clone(),
        })
    }

    /// The configuration the client was made from.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The namespace meant by the options, else by the context.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.namespace
            .as_deref()
            .unwrap_or(&self.config.default_namespace)
    }

    /// The namespace a plugin's name means.
    ///
    /// # Errors
    /// When the name and the option `-n` contradict each other.
    pub fn namespace_of(&self, plugin: &PluginName) -> Result<String, Error> {
        match (&plugin.namespace, &self.namespace) {
            (Some(named), Some(option)) if named != option => Err(Error::Input {
                what: format!("the plugin is named in namespace {named}, but -n says {option}"),
            }),
            (Some(named), _) => Ok(named.clone()),
            (None, _) => Ok(self.namespace().to_owned()),
        }
    }
}

async fn read_config(global: &Global) -> Result<Config, Error> {
    let options = KubeConfigOptions {
        context: global.context.clone(),
        ..KubeConfigOptions::default()
    };
    let config = match &global.kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path)
                .map_err(|source| Error::Kubeconfig(Box::new(source)))?;
            Config::from_custom_kubeconfig(kubeconfig, &options).await
        }
        None if global.context.is_some() => Config::from_kubeconfig(&options).await,
        None => {
            return Config::infer()
                .await
                .map_err(|source| Error::Kubeconfig(Box::new(source)));
        }
    };
    config.map_err(|source| Error::Kubeconfig(Box::new(source)))
}
