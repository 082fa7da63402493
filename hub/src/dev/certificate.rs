//! The certificate of a `dev` hub: an authority that stays, so that it is trusted once, and a leaf for each start.

use std::{fs, path::PathBuf, time::Duration, time::SystemTime};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::folder::{Folder, write_secret};
use crate::config::TlsFiles;

const DAY: Duration = Duration::from_secs(24 * 3600);
const AUTHORITY_LIFE: Duration = DAY.saturating_mul(3650);
/// Browsers refuse leaves that live longer than 398 days.
const LEAF_LIFE: Duration = DAY.saturating_mul(90);

/// Makes what is missing and returns the files of the leaf.
pub(super) fn prepare(
    folder: &Folder,
    hosts: &[String],
    now: SystemTime,
) -> anyhow::Result<TlsFiles> {
    let authority = authority(folder, now)?;
    let key = KeyPair::generate().context("could not make a key")?;
    let mut params = CertificateParams::new(hosts)
        .with_context(|| format!("could not make a certificate for {}", hosts.join(", ")))?;
    params.distinguished_name.push(DnType::CommonName, "Fairlead hub (development)");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    valid_for(&mut params, LEAF_LIFE, now);
    let leaf = params.signed_by(&key, &authority).context("could not sign the certificate")?;
    let files = TlsFiles { certificate: folder.file("hub.pem"), key: folder.file("hub.key") };
    write(&files.certificate, &leaf.pem())?;
    write_secret(&files.key, &key.serialize_pem())?;
    Ok(files)
}

fn authority(folder: &Folder, now: SystemTime) -> anyhow::Result<Issuer<'static, KeyPair>> {
    let (certificate, key) = (folder.authority_certificate(), folder.file("ca.key"));
    if certificate.exists() && key.exists() {
        let key = KeyPair::from_pem(&read(&key)?).context("could not read ca.key")?;
        return Issuer::from_ca_cert_pem(&read(&certificate)?, key)
            .context("could not read ca.pem");
    }
    let pair = KeyPair::generate().context("could not make a key")?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Fairlead development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    valid_for(&mut params, AUTHORITY_LIFE, now);
    let signed = params.self_signed(&pair).context("could not sign the authority")?;
    write_secret(&key, &pair.serialize_pem())?;
    write(&certificate, &signed.pem())?;
    Ok(Issuer::new(params, pair))
}

fn valid_for(params: &mut CertificateParams, life: Duration, now: SystemTime) {
    params.not_before = (now - DAY).into();
    params.not_after = (now + life).into();
}

fn read(path: &PathBuf) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))
}

fn write(path: &PathBuf, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("could not write {}", path.display()))
}
