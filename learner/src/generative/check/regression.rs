//! What follows from what was seen and done.

use tch::Tensor;

use crate::agents::Draws;

/// Ridge regression of Y on X, 1 and random features of X.
pub(super) struct Regression {
    directions: Tensor,
    offsets: Tensor,
    weights: Tensor,
}

impl Regression {
    /// Most random features.
    const MOST: i64 = 512;
    /// Rows for each of them at least, so that they are not learned by heart.
    const ROWS: i64 = 8;
    /// Ridge, for each row: keeps the sums invertible.
    const RIDGE: f64 = 1e-6;

    pub(super) fn fit(x: &Tensor, y: &Tensor, draws: &mut dyn Draws) -> Self {
        let (rows, inputs) = (x.size()[0], x.size()[1]);
        let features = (rows / Self::ROWS).clamp(1, Self::MOST);
        let mut normal = |name, shape: &[i64]| draws.normal(name, shape).to_kind(x.kind());
        let directions = normal("directions", &[inputs, features]) / (inputs as f64).sqrt();
        let mut of = Self {
            offsets: normal("offsets", &[features]).to_device(x.device()),
            directions: directions.to_device(x.device()),
            weights: Tensor::new(),
        };
        let f = of.features(x);
        let across = f.transpose(0, 1);
        let eye = Tensor::eye(f.size()[1], (x.kind(), x.device()));
        let sums = across.matmul(&f) + eye * (Self::RIDGE * rows as f64);
        of.weights = Tensor::linalg_solve(&sums, &across.matmul(y), true);
        of
    }

    fn features(&self, x: &Tensor) -> Tensor {
        let ones = Tensor::ones([x.size()[0], 1], (x.kind(), x.device()));
        let bent = (x.matmul(&self.directions) + &self.offsets).relu();
        Tensor::cat(&[&ones, x, &bent], 1)
    }

    pub(super) fn foretell(&self, x: &Tensor) -> Tensor {
        self.features(x).matmul(&self.weights)
    }
}
