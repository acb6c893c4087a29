//! A server like that of HIL-SERL's rigs, made for the test: HTTP on a socket of this machine, and
//! behind it an arm that goes where its tool is pulled.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use hilt_drivers::franka::{JOINTS, Model, chain};
use hilt_kinematics::{Chain, Ik, IkOptions};
use hilt_protocol::JointVector;
use hilt_realtime::{Clock, Monotonic};
use nalgebra::{Isometry3, Quaternion, Translation3, UnitQuaternion, Vector3};
use serde_json::{Value, json};

/// What it does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// What it should.
    Well,
    /// That, so much later.
    Slow(Duration),
    /// It says that it failed.
    Failing,
    /// Its answer is no JSON.
    Garbled,
    /// Its answer has a number that is none.
    NotFinite,
    /// It closes the connection in the middle of the answer.
    Cut,
    /// It hears nothing of the robot: the state is the last one, for ever.
    Deaf,
    /// Its grippers take so long before it answers.
    SlowGripper(Duration),
}

/// Fastest joint of the arm, rad/s.
const SPEED_RAD_S: f64 = 2.0;

struct Robot {
    chain: Chain,
    ik: Ik,
    joints: JointVector,
    pulled_to: Option<Isometry3<f64>>,
    gripper_m: f64,
    since_ns: u64,
    readings: u64,
}

/// The Franka Hand: an eighth of a turn about the flange's axis, its fingertips 0.1034 m away.
pub fn hand() -> Isometry3<f64> {
    let turn = UnitQuaternion::from_scaled_axis(-Vector3::z() * std::f64::consts::FRAC_PI_4);
    Isometry3::from_parts(Translation3::new(0.0, 0.0, 0.1034), turn)
}

impl Robot {
    fn new(flange_from_tool: &Isometry3<f64>) -> Self {
        let chain = chain(Model::Panda, flange_from_tool).unwrap();
        let ready = [0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785];
        Self {
            ik: Ik::new(chain.clone(), IkOptions::default()),
            chain,
            joints: JointVector::from_slice(&ready).unwrap(),
            pulled_to: None,
            gripper_m: 0.08,
            since_ns: Monotonic.now_ns(),
            readings: 0,
        }
    }

    /// Time has passed.
    fn pass(&mut self) {
        let now_ns = Monotonic.now_ns();
        let reach = SPEED_RAD_S * (now_ns - self.since_ns) as f64 * 1e-9;
        self.since_ns = now_ns;
        if let Some(goal) = &self.pulled_to {
            let goal = self.ik.solve(goal, &self.joints).joints;
            for (q, goal) in self.joints.as_mut_slice().iter_mut().zip(goal.as_slice()) {
                *q += (goal - *q).clamp(-reach, reach);
            }
        }
    }

    fn state(&mut self) -> Value {
        self.pass();
        self.readings += 1;
        // A sensor is never quite still.
        let noise = 1e-6 * (self.readings % 97) as f64;
        let pose = self.chain.base_from_tool(self.joints.as_slice());
        let (at, turn) = (pose.translation.vector, pose.rotation.coords);
        json!({
            "pose": [at.x, at.y, at.z, turn.x, turn.y, turn.z, turn.w],
            "vel": vec![0.0; 6],
            "force": vec![0.0; 3],
            "torque": vec![0.0; 3],
            "q": self.joints.as_slice(),
            "dq": vec![noise; JOINTS],
            "jacobian": vec![vec![0.0; JOINTS]; 6],
            "gripper_pos": self.gripper_m,
        })
    }

    fn pull(&mut self, body: &str) -> Option<()> {
        self.pass();
        let body: Value = serde_json::from_str(body).ok()?;
        let arr: [f64; 7] = serde_json::from_value(body.get("arr")?.clone()).ok()?;
        let [x, y, z, qx, qy, qz, qw] = arr;
        let turn = UnitQuaternion::from_quaternion(Quaternion::new(qw, qx, qy, qz));
        self.pulled_to = Some(Isometry3::from_parts(Translation3::new(x, y, z), turn));
        Some(())
    }
}

/// What the test and the server share.
struct Inside {
    mood: Mood,
    robot: Robot,
    last_state: String,
    /// Routes, in the order in which they were asked.
    asked: Vec<String>,
    ending: bool,
}

/// The server.
pub struct Server {
    address: SocketAddr,
    inside: Arc<Mutex<Inside>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// One that does what it should, with an arm that carries this tool.
    pub fn start(flange_from_tool: &Isometry3<f64>) -> Self {
        let inside = Arc::new(Mutex::new(Inside {
            mood: Mood::Well,
            robot: Robot::new(flange_from_tool),
            last_state: String::new(),
            asked: Vec::new(),
            ending: false,
        }));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let theirs = Arc::clone(&inside);
        let serve = move || {
            for stream in listener.incoming() {
                if theirs.lock().unwrap().ending {
                    return;
                }
                let inside = Arc::clone(&theirs);
                std::thread::Builder::new()
                    .name("franka-request".to_owned())
                    // Who asked may have gone; that is not the server's business.
                    .spawn(move || answer(stream.unwrap(), &inside).unwrap_or_default())
                    .unwrap();
            }
        };
        let thread = std::thread::Builder::new().spawn(serve).unwrap();
        Self {
            address,
            inside,
            thread: Some(thread),
        }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it is in this mood.
    pub fn set(&self, mood: Mood) {
        self.inside.lock().unwrap().mood = mood;
    }

    /// The routes that were asked since this was called last, without repetitions in a row.
    pub fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut self.inside.lock().unwrap().asked);
        asked.dedup();
        asked
    }

    /// How often a route was asked since then.
    pub fn times(&self, route: &str) -> usize {
        let inside = self.inside.lock().unwrap();
        inside.asked.iter().filter(|asked| *asked == route).count()
    }

    /// Where the tool is.
    pub fn tool(&self) -> Isometry3<f64> {
        let robot = &mut self.inside.lock().unwrap().robot;
        robot.pass();
        robot.chain.base_from_tool(robot.joints.as_slice())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.inside.lock().unwrap().ending = true;
        // Wakes it up.
        drop(TcpStream::connect(self.address));
        self.thread.take().unwrap().join().unwrap();
    }
}

/// One request, its answer, and the connection's end, as Flask does it.
fn answer(stream: TcpStream, inside: &Mutex<Inside>) -> std::io::Result<()> {
    let mut reader = BufReader::new(&stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let route = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let post = line.starts_with("POST ");
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        if header.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8(body).unwrap();

    let mood = inside.lock().unwrap().mood;
    match mood {
        Mood::Slow(by) => std::thread::sleep(by),
        Mood::SlowGripper(by) if route.ends_with("_gripper") => std::thread::sleep(by),
        _ => {}
    }
    let (status, text) = {
        let mut inside = inside.lock().unwrap();
        let (status, text) = match mood {
            Mood::Failing => ("500 INTERNAL SERVER ERROR", "<html>".to_owned()),
            _ if !post => ("405 METHOD NOT ALLOWED", String::new()),
            _ => respond(&mut inside, mood, &route, &body),
        };
        inside.asked.push(route);
        (status, text)
    };
    let length = text.len();
    let mut out = format!(
        "HTTP/1.0 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{text}"
    );
    if mood == Mood::Cut {
        out.truncate(out.len() - text.len() / 2);
    }
    (&stream).write_all(out.as_bytes())?;
    stream.shutdown(Shutdown::Both)
}

fn respond(inside: &mut Inside, mood: Mood, route: &str, body: &str) -> (&'static str, String) {
    let robot = &mut inside.robot;
    let text = match (route, mood) {
        ("/getstate", Mood::Deaf) => inside.last_state.clone(),
        ("/getstate", Mood::Garbled) => "{\"pose\": [0.1,".to_owned(),
        ("/getstate", Mood::NotFinite) => {
            let text = robot.state().to_string();
            let at = text.find("\"dq\":[").unwrap() + 6;
            let rest = text[at..].find(',').unwrap();
            format!("{}NaN{}", &text[..at], &text[at + rest..])
        }
        ("/getstate", _) => {
            inside.last_state = robot.state().to_string();
            inside.last_state.clone()
        }
        ("/pose", Mood::Deaf) => "Moved".to_owned(),
        ("/pose", _) => match robot.pull(body) {
            Some(()) => "Moved".to_owned(),
            None => return ("400 BAD REQUEST", String::new()),
        },
        ("/clearerr", _) => "Clear".to_owned(),
        ("/open_gripper", _) => {
            robot.gripper_m = 0.08;
            "Opened".to_owned()
        }
        ("/close_gripper", _) => {
            robot.gripper_m = 0.0;
            "Closed".to_owned()
        }
        _ => return ("404 NOT FOUND", String::new()),
    };
    ("200 OK", text)
}
