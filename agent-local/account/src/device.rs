//! This laptop as a device of its user: a key made here, and a certificate that the hub renews.

use std::{str, sync::Arc, time::SystemTime};

use fairlead_model::{DeviceId, timers::DEVICE_CERTIFICATE_LIFE};
use fairlead_wire::{authority::DeviceRequest, key::Key};
use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};

use crate::{Account, AccountError, Hub, files};

/// Key and certificate, ready for links and carriers.
#[derive(Debug, Clone)]
pub struct Device {
    pub id: DeviceId,
    pub key: Arc<Key>,
    pub certificate: CertificateDer<'static>,
    pub expires_at: SystemTime,
}

/// The certificate as it is kept, and as the hub gives it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Certified {
    pub(crate) device: DeviceView,
    certificate_pem: String,
    expires_at: Timestamp,
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct DeviceView {
    id: DeviceId,
}

impl Account {
    /// Returns the device key, made at the first call. Whoever makes it holds the lock.
    pub(crate) fn key(&self) -> Result<Arc<Key>, AccountError> {
        let path = self.key_path();
        if let Some(pem) = files::read(&path)? {
            let damaged = |why: String| AccountError::Damaged { path: path.clone(), why };
            let pem = str::from_utf8(&pem).map_err(|error| damaged(error.to_string()))?;
            return Key::from_pkcs8_pem(pem).map(Arc::new).map_err(|e| damaged(e.to_string()));
        }
        let key = Key::generate().expect("the operating system gives random bytes");
        files::write(&path, key.expose_pkcs8_pem().as_bytes())?;
        Ok(Arc::new(key))
    }

    pub(crate) fn keep_certificate(&self, certified: &Certified) -> Result<(), AccountError> {
        files::write_json(&self.certificate_path(), certified)
    }
}

impl Hub {
    /// Returns this laptop as a device, renewing its certificate in the second half of its life.
    pub async fn device(&self) -> Result<Device, AccountError> {
        let kept = files::read_json::<Certified>(&self.account().certificate_path())?;
        let certified = match kept {
            Some(certified) if certified.is_young(Timestamp::now()) => certified,
            Some(_) | None => self.renew_certificate().await?,
        };
        certified.into_device(self.account(), Arc::clone(self.key()))
    }

    pub(crate) async fn renew_certificate(&self) -> Result<Certified, AccountError> {
        let request = DeviceRequest::make_pem(self.key()).map_err(|error| {
            AccountError::Damaged { path: self.account().key_path(), why: error.to_string() }
        })?;
        let certified = self.register_device(&host_name(), &request).await?;
        self.account().keep_certificate(&certified)?;
        Ok(certified)
    }
}

impl Certified {
    fn is_young(&self, now: Timestamp) -> bool {
        let half = SignedDuration::try_from(DEVICE_CERTIFICATE_LIFE / 2).expect("hours");
        self.expires_at.duration_since(now) > half
    }

    fn into_device(self, account: &Account, key: Arc<Key>) -> Result<Device, AccountError> {
        let certificate = CertificateDer::from_pem_slice(self.certificate_pem.as_bytes());
        let certificate = certificate.map_err(|error| AccountError::Damaged {
            path: account.certificate_path(),
            why: error.to_string(),
        })?;
        Ok(Device { id: self.device.id, key, certificate, expires_at: self.expires_at.into() })
    }
}

/// Returns the name under which people find this laptop in a list.
pub(crate) fn host_name() -> String {
    let name = files::read(std::path::Path::new("/proc/sys/kernel/hostname")).ok().flatten();
    let name = name.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    match name.trim() {
        "" => "laptop".to_owned(),
        name => name.to_owned(),
    }
}
