//! One look-up: the hosts file first, then the name servers.

use super::answer::{self, Known, LookupError, Negative, Records, Service};
use super::hosts::Hosts;
use crate::config::model::{AddressFamily, Dns, DnsName};
use crate::upstream::shared::names::Place;
use futures_util::StreamExt;
use futures_util::stream;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

/// How long what the hosts file says is taken for given; looking costs nothing.
const HOSTS_TTL: Duration = Duration::from_secs(5);
/// How long one family's addresses wait for the other's. Some servers never answer for IPv6.
const SIBLING: Duration = Duration::from_secs(1);
/// Hosts of a service looked up at the same time.
const MAX_HOSTS_AT_ONCE: usize = 16;
/// Hosts of a service that are looked up; as many records as fit into an answer.
const MAX_HOSTS: usize = 2048;
/// Servers asked at the same time; the next ones follow when these have failed.
const SERVERS_AT_ONCE: usize = 2;
/// Where a system without a resolv.conf has its name server (resolv.conf(5)).
const LOCAL_SERVER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What a look-up found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub places: Vec<Place>,
    /// The addresses that `places` come from; what one host has lost for a moment is taken from here next time.
    pub known: Known,
    pub ttl: Duration,
}

/// Asks, as the configuration and the system's files said when it was made.
pub(super) struct Asker {
    resolver: TokioResolver,
    hosts: Hosts,
    /// Domains that a name is looked for in.
    search: Vec<String>,
    /// Dots from which on a name is looked for as it stands first.
    ndots: usize,
    family: AddressFamily,
    timeout: Duration,
}

impl Asker {
    /// `resolv_conf` and `hosts` are the texts of those files.
    ///
    /// # Errors
    /// No resolver can be made of this.
    pub(super) fn new(dns: &Dns, resolv_conf: &str, hosts: &str) -> Result<Self, LookupError> {
        let (mut config, system) = parse_resolv_conf(resolv_conf)
            .unwrap_or_else(|_| (servers([(LOCAL_SERVER, None)]), ResolverOpts::default()));
        if !dns.servers.is_empty() {
            config = servers(
                dns.servers
                    .iter()
                    .map(|server| (server.ip(), Some(server.port()))),
            );
        }
        let search = config.search.iter().map(ToString::to_string).collect();
        let mut options = ResolverOpts::default();
        options.ndots = system.ndots;
        options.edns0 = true;
        options.num_concurrent_reqs = SERVERS_AT_ONCE;
        // Lost packets are sent again within it; a further attempt would only forget what is on its way.
        let rounds = config.name_servers.len().div_ceil(SERVERS_AT_ONCE).max(1);
        options.timeout = dns.timeout / u32::try_from(rounds).unwrap_or(u32::MAX);
        options.attempts = 0;
        // When an answer is asked for again is decided here, and the hosts file is ours to read.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .map_err(|error| LookupError::Failed(error.to_string()))?;
        Ok(Self {
            resolver,
            hosts: Hosts::parse(hosts),
            search,
            ndots: system.ndots,
            family: dns.family,
            timeout: dns.timeout,
        })
    }

    /// Looks a name up. `before` is what was known of it.
    ///
    /// # Errors
    /// There is no answer, or nothing in it to connect to.
    pub(super) async fn look_up(&self, name: &DnsName, before: &Known) -> Result<Found, LookupError> {
        let asking = async {
            match name {
                DnsName::Host { host, port } => self.host(host, *port, before).await,
                DnsName::Service(service) => self.services(service, before).await,
            }
        };
        match tokio::time::timeout(self.timeout, asking).await {
            Ok(found) => found,
            Err(_) => Err(LookupError::Timeout),
        }
    }

    async fn host(&self, host: &str, port: u16, before: &Known) -> Result<Found, LookupError> {
        let known = before.get(host).map_or(&[][..], Vec::as_slice);
        let addresses = self.addresses(host, known).await?;
        Ok(Found {
            places: answer::host_places(&addresses.list, port),
            known: Known::from([(host.to_owned(), addresses.list)]),
            ttl: addresses.ttl,
        })
    }

    async fn services(&self, name: &str, before: &Known) -> Result<Found, LookupError> {
        let lookup = self.searched(name, RecordType::SRV).await?;
        let services: Vec<Service> = lookup.answers().iter().filter_map(service).collect();
        let mut ttl = ttl(&lookup);
        let mut known = Known::new();
        let mut unknown = Vec::new();
        for service in &services {
            let host = &service.target;
            // One dot alone: the service is decidedly not offered there (RFC 2782).
            if host == "." || known.contains_key(host) || unknown.contains(host) {
                continue;
            }
            let enclosed = self.enclosed(&lookup, host);
            if enclosed.is_empty() {
                unknown.push(host.clone());
            } else {
                known.insert(host.clone(), enclosed);
            }
        }
        unknown.truncate(MAX_HOSTS);
        let mut asked = stream::iter(unknown)
            .map(async |host| {
                let last = before.get(&host).map_or(&[][..], Vec::as_slice);
                let found = self.addresses(&host, last).await;
                (host, found)
            })
            .buffer_unordered(MAX_HOSTS_AT_ONCE);
        let mut failed = None;
        while let Some((host, found)) = asked.next().await {
            match found {
                Ok(addresses) => {
                    ttl = ttl.min(addresses.ttl);
                    known.insert(host, addresses.list);
                }
                Err(error) => {
                    // What nobody could tell is as it was.
                    if let Some(last) = before.get(&host).filter(|_| !error.is_final()) {
                        known.insert(host, last.clone());
                    }
                    failed = Some(error);
                }
            }
        }
        let places = answer::service_places(&services, &known);
        if places.is_empty() {
            return Err(failed.unwrap_or(LookupError::NoAddress(None)));
        }
        Ok(Found { places, known, ttl })
    }

    /// The addresses that an answer carries along for one of its hosts.
    fn enclosed(&self, lookup: &Lookup, host: &str) -> Vec<IpAddr> {
        let own = |record: &&Record| record.name.to_string().eq_ignore_ascii_case(host);
        let additional = lookup.additionals().iter().filter(own).filter_map(address);
        additional
            .filter(|ip| answer::is_usable(ip) && self.asks_for(ip))
            .collect()
    }

    fn asks_for(&self, ip: &IpAddr) -> bool {
        match self.family {
            AddressFamily::Any => true,
            AddressFamily::Ipv4 => ip.is_ipv4(),
            AddressFamily::Ipv6 => ip.is_ipv6(),
        }
    }

    async fn addresses(&self, host: &str, before: &[IpAddr]) -> Result<Records<IpAddr>, LookupError> {
        if let Some(mut list) = self.hosts.addresses(host) {
            list.retain(|ip| self.asks_for(ip));
            let ttl = HOSTS_TTL;
            return answer::addresses(Ok(Records { list, ttl }), Err(LookupError::NoAddress(None)), &[]);
        }
        let mut result = Err(LookupError::NoSuchName(None));
        for name in candidates(host, &self.search, self.ndots) {
            let (v4, v6) = self.both_families(&name).await;
            result = answer::addresses(v4, v6, before);
            if !matches!(&result, Err(error) if error.is_final()) {
                break;
            }
        }
        result
    }

    async fn both_families(
        &self,
        name: &str,
    ) -> (
        Result<Records<IpAddr>, LookupError>,
        Result<Records<IpAddr>, LookupError>,
    ) {
        let no = || Err(LookupError::NoAddress(None));
        match self.family {
            AddressFamily::Ipv4 => (self.records(name, RecordType::A).await, no()),
            AddressFamily::Ipv6 => (no(), self.records(name, RecordType::AAAA).await),
            AddressFamily::Any => {
                let mut v4 = std::pin::pin!(self.records(name, RecordType::A));
                let mut v6 = std::pin::pin!(self.records(name, RecordType::AAAA));
                tokio::select! {
                    first = &mut v4 => {
                        let second = sibling(first.is_ok(), v6).await;
                        (first, second)
                    }
                    first = &mut v6 => {
                        let second = sibling(first.is_ok(), v4).await;
                        (second, first)
                    }
                }
            }
        }
    }

    async fn records(&self, name: &str, kind: RecordType) -> Result<Records<IpAddr>, LookupError> {
        let lookup = self.resolver.lookup(name, kind).await.map_err(cause)?;
        let list: Vec<IpAddr> = lookup.answers().iter().filter_map(address).collect();
        if list.is_empty() {
            return Err(LookupError::NoAddress(None));
        }
        Ok(Records {
            list,
            ttl: ttl(&lookup),
        })
    }

    async fn searched(&self, name: &str, kind: RecordType) -> Result<Lookup, LookupError> {
        let mut result = Err(LookupError::NoSuchName(None));
        for name in candidates(name, &self.search, self.ndots) {
            result = self.resolver.lookup(name, kind).await.map_err(cause);
            if !matches!(&result, Err(error) if error.is_final()) {
                break;
            }
        }
        result
    }
}

/// The other family's answer: once one has come, it is not waited for as long as it may take.
async fn sibling<T>(
    hurry: bool,
    answer: impl Future<Output = Result<T, LookupError>>,
) -> Result<T, LookupError> {
    if !hurry {
        return answer.await;
    }
    match tokio::time::timeout(SIBLING, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(LookupError::Timeout),
    }
}

/// Name servers over UDP, and over TCP what does not fit.
fn servers(servers: impl IntoIterator<Item = (IpAddr, Option<u16>)>) -> ResolverConfig {
    let server = |(ip, port): (IpAddr, Option<u16>)| {
        let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
        for connection in &mut connections {
            connection.port = port.unwrap_or(connection.port);
        }
        NameServerConfig::new(ip, true, connections)
    };
    ResolverConfig::from_name_servers(servers.into_iter().map(server).collect())
}

/// The names to ask for, in order: what ends with a dot is whole, anything else is looked for in the search
/// domains too (resolv.conf(5)).
fn candidates(name: &str, search: &[String], ndots: usize) -> Vec<String> {
    if name.ends_with('.') {
        return vec![name.to_owned()];
    }
    let whole = format!("{name}.");
    let mut names: Vec<String> = search
        .iter()
        .map(|domain| format!("{name}.{}.", domain.trim_matches('.')))
        .collect();
    let dots = name.bytes().filter(|&byte| byte == b'.').count();
    if dots >= ndots {
        names.insert(0, whole);
    } else {
        names.push(whole);
    }
    names
}

fn ttl(lookup: &Lookup) -> Duration {
    lookup.valid_until().saturating_duration_since(Instant::now())
}

fn address(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(ip) => Some(ip.0.into()),
        RData::AAAA(ip) => Some(ip.0.into()),
        _ => None,
    }
}

fn service(record: &Record) -> Option<Service> {
    match &record.data {
        RData::SRV(srv) => Some(Service {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: srv.target.to_string().to_ascii_lowercase(),
        }),
        _ => None,
    }
}

fn negative(none: &NoRecords) -> Negative {
    none.negative_ttl
        .map(|seconds| Duration::from_secs(seconds.into()))
}

fn cause(error: NetError) -> LookupError {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) if none.response_code == ResponseCode::NXDomain => {
            LookupError::NoSuchName(negative(&none))
        }
        NetError::Dns(DnsError::NoRecordsFound(none)) if none.response_code == ResponseCode::NoError => {
            LookupError::NoAddress(negative(&none))
        }
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            LookupError::ServerFailed(none.response_code.to_string())
        }
        NetError::Dns(DnsError::ResponseCode(code)) => LookupError::ServerFailed(code.to_string()),
        NetError::Timeout => LookupError::Timeout,
        other => LookupError::Failed(other.to_string()),
    }
}

impl std::fmt::Debug for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asker")
            .field("search", &self.search)
            .field("ndots", &self.ndots)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
