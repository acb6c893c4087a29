//! The HTTP server that drives the robot: its routes, what they take and what they answer.
//!
//! | route (all POST) | body | answer |
//! |---|---|---|
//! | `/getstate` | — | `pose` [x, y, z, qx, qy, qz, qw], `q`, `dq` (7 each), `gripper_pos`, and more |
//! | `/pose` | `{"arr": [x, y, z, qx, qy, qz, qw]}` | text |
//! | `/clearerr` | — | text |
//! | `/open_gripper`, `/close_gripper` | — | text |
//!
//! A pose is where its impedance controller pulls the tool: metres and a quaternion in the robot's
//! base frame. It stays in force until the next one.

use std::{net::ToSocketAddrs, time::Duration};

use nalgebra::{Isometry3, Quaternion, Translation3, UnitQuaternion};
use serde::Deserialize;
use ureq::Agent;

use super::chain::JOINTS;

/// A request has so long, from the connection to the answer's last byte.
const TIMEOUT: Duration = Duration::from_millis(250);
/// Some servers answer when the gripper has done it.
const GRIPPER_TIMEOUT: Duration = Duration::from_secs(3);
/// No answer is longer. A state is some 2 kB.
const MOST_BYTES: u64 = 64 * 1024;
/// A quaternion's norm may be off by so much.
const NORM_SLACK: f64 = 0.01;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The URL is none.
    #[error("franka.url {url}: {problem}; write it as http://HOST:PORT")]
    Url {
        /// As the rig file has it.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There was no answer.
    #[error(
        "{url} does not answer ({problem}); see that the robot's server runs and the network is up"
    )]
    Silent {
        /// Server and route.
        url: String,
        /// How it failed.
        problem: String,
    },
    /// The answer says that it failed.
    #[error("{url} answers with status {status}; the server's own output says why")]
    Status {
        /// Server and route.
        url: String,
        /// HTTP's.
        status: u16,
    },
    /// The answer is not what it should be.
    #[error("{url} answers what is no state of a Franka ({problem})")]
    Answer {
        /// Server and route.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// What the robot reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reported {
    /// Joint positions, radians.
    pub joints: [f64; JOINTS],
    /// Joint velocities, rad/s.
    pub velocities: [f64; JOINTS],
    /// Pose of the tool, as the robot is configured, in its base's frame.
    pub base_from_tool: Isometry3<f64>,
    /// The gripper's position in the server's own unit: metres for the Franka Hand. 0 without one.
    pub gripper: f64,
}

/// The answer of `/getstate`, as far as it is needed. Other fields differ between servers.
#[derive(Deserialize)]
struct StateAnswer {
    pose: [f64; 7],
    q: [f64; JOINTS],
    dq: [f64; JOINTS],
    #[serde(default)]
    gripper_pos: Option<f64>,
}

impl Reported {
    /// From the text of an answer. Numbers that are not finite are no JSON, and are refused with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let answer: StateAnswer = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let [x, y, z, qx, qy, qz, qw] = answer.pose;
        let quaternion = Quaternion::new(qw, qx, qy, qz);
        let norm = quaternion.norm();
        if (norm - 1.0).abs() > NORM_SLACK {
            return Err(format!("the pose's quaternion has a norm of {norm:.3}"));
        }
        Ok(Self {
            joints: answer.q,
            velocities: answer.dq,
            base_from_tool: Isometry3::from_parts(
                Translation3::new(x, y, z),
                UnitQuaternion::from_quaternion(quaternion),
            ),
            gripper: answer.gripper_pos.unwrap_or(0.0),
        })
    }
}

/// The server.
#[derive(Clone, Debug)]
pub struct Server {
    agent: Agent,
    /// Without a slash at its end.
    url: String,
}

impl Server {
    /// Of a URL like `http://172.16.0.1:5000`. Its name is looked up once, here: later that could
    /// take a while at any time.
    pub fn new(url: &str) -> Result<Self, ServerError> {
        let refused = |problem: &str| ServerError::Url {
            url: url.to_owned(),
            problem: problem.to_owned(),
        };
        let host = url.strip_prefix("http://");
        let host = host.ok_or_else(|| refused("only http is spoken"))?;
        let host = host.trim_end_matches('/');
        if host.is_empty() || host.contains(['/', '@', '?', '#']) {
            return Err(refused("it is more or less than a host and a port"));
        }
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, p)| p.parse::<u16>().is_ok());
        let host = match has_port {
            true => host.to_owned(),
            false => format!("{host}:80"),
        };
        let mut addresses = (host.to_socket_addrs()).map_err(|e| refused(&e.to_string()))?;
        let address = addresses
            .next()
            .ok_or_else(|| refused("it has no address"))?;
        let config = Agent::config_builder()
            .max_redirects(0)
            .proxy(None)
            .user_agent("hilt")
            .build();
        Ok(Self {
            agent: config.into(),
            url: format!("http://{address}"),
        })
    }

    /// What the robot reports now.
    pub fn state(&self) -> Result<Reported, ServerError> {
        let text = self.post("/getstate", None, TIMEOUT)?;
        Reported::parse(&text).map_err(|problem| ServerError::Answer {
            url: self.at("/getstate"),
            problem,
        })
    }

    /// From now on the tool is pulled to this pose.
    pub fn pull_to(&self, pose: &Isometry3<f64>) -> Result<(), ServerError> {
        let (at, turn) = (pose.translation.vector, pose.rotation.coords);
        let arr = [at.x, at.y, at.z, turn.x, turn.y, turn.z, turn.w];
        let body = serde_json::json!({ "arr": arr }).to_string();
        self.post("/pose", Some(&body), TIMEOUT).map(drop)
    }

    /// Lets the robot move again after an error of its own.
    pub fn clear_errors(&self) -> Result<(), ServerError> {
        self.post("/clearerr", None, TIMEOUT).map(drop)
    }

    /// Opens or closes the gripper.
    pub fn grip(&self, closed: bool) -> Result<(), ServerError> {
        let route = match closed {
            true => "/close_gripper",
            false => "/open_gripper",
        };
        self.post(route, None, GRIPPER_TIMEOUT).map(drop)
    }

    fn at(&self, route: &str) -> String {
        format!("{}{route}", self.url)
    }

    fn post(
        &self,
        route: &str,
        json: Option<&str>,
        timeout: Duration,
    ) -> Result<String, ServerError> {
        let url = self.at(route);
        let request = self.agent.post(&url).config();
        let request = request.timeout_global(Some(timeout)).build();
        let sent = match json {
            Some(body) => request.content_type("application/json").send(body),
            None => request.send_empty(),
        };
        let read = sent.and_then(|mut answer| {
            let body = answer.body_mut().with_config().limit(MOST_BYTES);
            body.read_to_string()
        });
        read.map_err(|error| match error {
            ureq::Error::StatusCode(status) => ServerError::Status { url, status },
            error => ServerError::Silent {
                url,
                problem: error.to_string(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(pose: &str, q: &str, more: &str) -> String {
        let dq = "[0, 0, 0, 0, 0, 0, 0.5]";
        format!("{{\"pose\": {pose}, \"q\": {q}, \"dq\": {dq}, \"vel\": [1] {more}}}")
    }

    const Q: &str = "[0, -0.8, 0, -2.4, 0, 1.6, 0.8]";

    #[test]
    fn a_state_is_read() {
        let text = answer("[0.3, 0, 0.5, 1.0, 0, 0, 0]", Q, ", \"gripper_pos\": 0.04");
        let state = Reported::parse(&text).unwrap();
        assert_eq!(state.joints, [0.0, -0.8, 0.0, -2.4, 0.0, 1.6, 0.8]);
        assert_eq!(state.velocities[6], 0.5);
        assert_eq!(state.gripper, 0.04);
        let down =
            UnitQuaternion::from_axis_angle(&nalgebra::Vector3::x_axis(), std::f64::consts::PI);
        let pose = Isometry3::from_parts(Translation3::new(0.3, 0.0, 0.5), down);
        assert!(state.base_from_tool.rotation.angle_to(&pose.rotation) < 1e-9);
        assert_eq!(state.base_from_tool.translation, pose.translation);
        let text = answer("[0.3, 0, 0.5, 1.0, 0, 0, 0]", Q, "");
        assert_eq!(Reported::parse(&text).unwrap().gripper, 0.0, "without one");
    }

    #[test]
    fn what_is_no_state_is_refused() {
        let pose = "[0.3, 0, 0.5, 1, 0, 0, 0]";
        for text in [
            "",
            "Moved",
            "{}",
            "<html>",
            &answer("[0.3, 0, 0.5, 0, 0, 0, 0]", Q, ""),
            &answer("[0.3, 0, 0.5, 1, 0, 0]", Q, ""),
            // As Python writes it, and as JSON might.
            &answer("[NaN, 0, 0.5, 1, 0, 0, 0]", Q, ""),
            &answer(pose, "[0, 0, 0, Infinity, 0, 0, 0]", ""),
            &answer(pose, "[0, 0, 0, 1e999, 0, 0, 0]", ""),
            &answer(pose, "[0, 0, 0, null, 0, 0, 0]", ""),
            &answer(pose, "[0, 0, 0, 0, 0, 0]", ""),
            &answer(pose, Q, ", \"gripper_pos\": NaN"),
            &answer(pose, Q, ", \"gripper_pos\": \"open\""),
        ] {
            assert!(Reported::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_url_is_a_host_and_a_port() {
        assert_eq!(
            Server::new("http://127.0.0.1:5000/").unwrap().url,
            "http://127.0.0.1:5000"
        );
        assert_eq!(
            Server::new("http://127.0.0.1").unwrap().url,
            "http://127.0.0.1:80"
        );
        assert_eq!(
            Server::new("http://[::1]:5000").unwrap().url,
            "http://[::1]:5000"
        );
        for url in [
            "",
            "127.0.0.1:5000",
            "https://127.0.0.1",
            "http://",
            "http://a/b",
            "http://:1",
        ] {
            let error = Server::new(url).unwrap_err().to_string();
            assert!(error.contains("http://HOST:PORT"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_finite_state_or_none(text in ".{0,200}", numbers in prop::collection::vec(any::<f64>(), 22)) {
            let _ = Reported::parse(&text);
            let list = |from: usize, to: usize| format!("{:?}", &numbers[from..to]);
            let text = answer(&list(0, 7), &list(7, 14), &format!(", \"gripper_pos\": {:?}", numbers[21]));
            if let Ok(state) = Reported::parse(&text) {
                prop_assert!(state.joints.iter().all(|v| v.is_finite()));
                prop_assert!(state.base_from_tool.rotation.coords.iter().all(|v| v.is_finite()));
                prop_assert!(state.gripper.is_finite());
            }
        }
    }
}
