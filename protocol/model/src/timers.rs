//! The times on which two programs have to agree, and those that documents promise.
//!
//! Some that only one program keeps stand here beside their like. The others, such as how long a single call may take,
//! stand where they are used.

use std::time::Duration;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Both ends of a link say something at least this often.
pub const LINK_HEARTBEAT: Duration = s(5);
/// A link this long silent is dead.
pub const LINK_DEAD: Duration = s(15);

/// h2 PING on a carrier with nothing to carry.
pub const CARRIER_PING: Duration = s(15);
/// A carrier this long without an answer is dead.
pub const CARRIER_DEAD: Duration = s(30);
/// `TCP_USER_TIMEOUT` of every carrier and link socket.
pub const TCP_USER_TIMEOUT: Duration = s(20);

/// A TCP connection to a hub or a relay is made within this time.
pub const CONNECT: Duration = s(10);
/// TLS of a link or carrier is agreed within this time.
pub const HANDSHAKE: Duration = s(10);
/// The far end of a carrier answers the wish for a stream within this time.
pub const STREAM_OPEN: Duration = s(10);
/// A UDP flow in which nothing has passed for this long is over.
pub const UDP_FLOW_IDLE: Duration = s(60);
/// A stream closed in one direction, in which nothing moves in the other, is aborted after this time.
pub const HALF_CLOSED_LINGER: Duration = s(30);

/// The agent pings the laptop this often while it intercepts.
pub const INTERCEPT_BEAT: Duration = s(1);
/// This many beats missed in a row: away.
pub const INTERCEPT_BEATS_MISSED: u32 = 3;
/// A connection to the laptop's port that is not made within this time: away.
pub const INTERCEPT_CONNECT: Duration = s(1);
/// Between *away* and the end of the intercept.
pub const INTERCEPT_GRACE: Duration = s(15);
/// The longest grace a policy may give.
pub const INTERCEPT_GRACE_MAX: Duration = s(300);

/// Life of a grant, which bounds how long a flow survives a hub that can push nothing.
pub const GRANT_LIFE: Duration = s(15 * 60);
pub const GRANT_RENEWAL: Duration = s(5 * 60);
/// Clocks may differ by this much.
pub const CLOCK_SKEW: Duration = s(60);

/// From the offer of a carrier until both of its halves are at the relay.
pub const TICKET_LIFE: Duration = s(30);
/// A connection to the relay says what it is within this time.
pub const PREFACE: Duration = s(5);
pub const JOIN_TOKEN_LIFE: Duration = s(30 * 60);
pub const SETUP_LINK_LIFE: Duration = s(30 * 60);

pub const DEVICE_CERTIFICATE_LIFE: Duration = s(12 * 3600);
/// Renewed at half of its life.
pub const REPLICA_CERTIFICATE_LIFE: Duration = s(24 * 3600);

pub const WEB_SESSION_IDLE: Duration = s(12 * 3600);
pub const WEB_SESSION_LIFE: Duration = s(7 * 24 * 3600);
pub const ACCESS_TOKEN_LIFE: Duration = s(10 * 60);
pub const REFRESH_TOKEN_IDLE: Duration = s(30 * 24 * 3600);
/// A laptop that did not get the answer to a refresh asks again within this time.
pub const REFRESH_ANSWER_LOST: Duration = s(60);
pub const AUTHORIZATION_CODE_LIFE: Duration = s(60);
/// A machine without a browser waits this long for somebody to answer, and asks this often whether they have.
pub const DEVICE_CODE_LIFE: Duration = s(10 * 60);
pub const DEVICE_CODE_POLL: Duration = s(5);
/// A token of a service account lives this long when nobody says otherwise, and never longer than the second.
pub const API_TOKEN_LIFE: Duration = s(30 * 24 * 3600);
pub const API_TOKEN_LIFE_MAX: Duration = s(90 * 24 * 3600);
pub const LOGIN_ATTEMPT_LIFE: Duration = s(10 * 60);

/// Renewal of the writing agent replica's Lease. A lost node is told from a broken path by a renewal that is missing,
/// so this bounds how long new connections fail when a node is cut off.
pub const AGENT_LEASE_RENEWAL: Duration = s(2);
/// Every agent Lease this long expired and no agent pod ready: the janitor acts.
pub const JANITOR_PATIENCE: Duration = s(15);

pub const RECONNECT_FIRST: Duration = Duration::from_millis(500);
/// Where nobody is there: a hub that restarts is found within this time after it listens. Laptop and agent look one after
/// the other, and both are to be back within two seconds.
pub const RECONNECT_SOON: Duration = Duration::from_millis(800);
pub const RECONNECT_MAX: Duration = s(30);
/// New connections on the laptop wait this long for a carrier, then fail visibly.
pub const LAPTOP_QUEUE: Duration = s(3);

/// From asking the hub for a carrier until its offer is there.
pub const LAPTOP_OFFER: Duration = s(15);
/// The laptop looks this often whether its carrier still answers, which is sooner than TCP would notice.
pub const LAPTOP_BEAT: Duration = s(5);
/// A beat of the laptop is answered within this time.
pub const LAPTOP_BEAT_ANSWER: Duration = s(3);
/// After a move, link and carriers that have not answered within this time are not waited for any more: whatever begins
/// takes new ones. Short enough for both to be made before a new connection has waited in vain.
pub const LAPTOP_MOVED_ANSWER: Duration = s(1);
/// A session this young may be missing from a welcome that was written before it began.
pub const LAPTOP_SESSION_YOUNG: Duration = s(10);
/// By then the agent knows that an intercept is over, and opens no more streams.
pub const AGENT_HEARS: Duration = Duration::from_millis(300);
/// What is under way at the developer's port when an intercept is left may take this long; then the agent cuts it.
pub const LEAVE_FINISH: Duration = s(1);
/// Hub and laptop keep the way open for longer, so that the agent, which hears of the end later, is the one that cuts.
pub const LEAVE_WAY_OPEN: Duration = Duration::from_millis(1500);
/// A daemon that is told to end has told the hub within this time.
pub const DAEMON_FAREWELL: Duration = s(4);
/// The supervisor kills a daemon that has not ended this long after it was told to.
pub const DAEMON_END: Duration = s(5);

// Who would cut first is not left to whoever changes a number.
const _: () =
    assert!(AGENT_HEARS.as_millis() + LEAVE_FINISH.as_millis() <= LEAVE_WAY_OPEN.as_millis());
const _: () = assert!(LAPTOP_MOVED_ANSWER.as_millis() * 2 < LAPTOP_QUEUE.as_millis());
const _: () = assert!(DAEMON_FAREWELL.as_millis() < DAEMON_END.as_millis());

/// Names and redirects are proven this often.
pub const LAPTOP_PROOF: Duration = s(5);
/// A proof that takes longer has failed.
pub const LAPTOP_PROOF_MAX: Duration = s(2);
/// A session that is over is shown this long, so that people see why.
pub const LAPTOP_SHOWN: Duration = s(60);
/// A daemon that is back within this time finds its footprint as it left it.
pub const DAEMON_BACK: Duration = s(3);
/// `nft` has changed the ruleset within this time. The daemon waits for two of them: to put, and to put back.
pub const NFT_MAX: Duration = s(5);
/// The supervisor has answered its daemon within this time.
pub const SUPERVISOR_ANSWER: Duration = s(15);
