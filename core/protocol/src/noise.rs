//! Exploration noise as a pure function of a seed, so that a recorded step can be recomputed
//! bit for bit on another machine, in another process.
//!
//! Counter-based: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) over `seed + i·γ`.

/// Mixes a 64-bit number (SplitMix64's finaliser).
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The stream of uniforms of one seed.
#[derive(Clone, Copy, Debug)]
pub struct Uniforms(u64);

impl Uniforms {
    /// Starts the stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// The next uniform, strictly inside (0, 1).
    pub fn open01(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.open01()
    }

    /// A standard normal (Box–Muller, the cosine half).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.open01().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.open01()).cos()
    }

    /// Two standard normals, independent of each other (Box–Muller, both halves).
    pub fn normal_pair(&mut self) -> [f64; 2] {
        let radius = (-2.0 * self.open01().ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * self.open01()).sin_cos();
        [radius * cosine, radius * sine]
    }

    /// A standard Gumbel.
    pub fn gumbel(&mut self) -> f64 {
        -(-self.open01().ln()).ln()
    }

    /// Uniform in 0..n (n > 0; the bias of the remainder is below n / 2⁶⁴).
    pub fn below(&mut self, n: u64) -> u64 {
        self.bits() % n
    }
}

/// Standard normals for the policy graph's `noise` input.
pub fn normals(seed: u64, n: usize) -> Vec<f32> {
    let mut stream = Uniforms::new(mix(seed ^ 0x6e6f_726d));
    (0..n).map(|_| stream.normal() as f32).collect()
}

/// Standard Gumbels for the policy graph's `gumbel` input.
pub fn gumbels(seed: u64, n: usize) -> Vec<f32> {
    let mut stream = Uniforms::new(mix(seed ^ 0x6775_6d62));
    (0..n).map(|_| stream.gumbel() as f32).collect()
}
