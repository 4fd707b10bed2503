//! Our objects as kube's runtime handles them.

use std::borrow::Cow;

use kube::core::{DynamicResourceScope, ObjectMeta};
use serde::{Deserialize, Deserializer};

use super::objects::{
    EndpointSlice, Endpoints, Ingress, MetadataOnly, Node, ObjectMeta as OurMeta, Pod, Resource, Service,
};

/// An object with the little that the runtime wants to know about it: its version, to go on from.
#[derive(Debug, Clone)]
pub(super) struct Watched<T> {
    pub(super) object: T,
    runtime: ObjectMeta,
}

/// The kinds of objects that are followed.
pub(super) trait Kind:
    Clone + std::fmt::Debug + for<'de> Deserialize<'de> + Send + Sync + 'static
{
    fn metadata(&self) -> &OurMeta;
}

macro_rules! kinds {
    ($($kind:ident),*) => {
        $(impl Kind for $kind {
            fn metadata(&self) -> &OurMeta {
                &self.metadata
            }
        })*
    };
}

kinds!(Endpoints, EndpointSlice, Ingress, MetadataOnly, Node, Pod, Service);

impl<'de, T: Kind> Deserialize<'de> for Watched<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = T::deserialize(deserializer)?;
        let version = object.metadata().resource_version.to_string();
        let runtime = ObjectMeta { resource_version: Some(version), ..ObjectMeta::default() };
        Ok(Self { object, runtime })
    }
}

impl<T> kube::Resource for Watched<T> {
    type DynamicType = Resource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &Resource) -> Cow<'_, str> {
        resource.plural().into()
    }

    fn group(resource: &Resource) -> Cow<'_, str> {
        resource.group().into()
    }

    fn version(_: &Resource) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural(resource: &Resource) -> Cow<'_, str> {
        resource.plural().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.runtime
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.runtime
    }
}
