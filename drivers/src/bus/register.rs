//! Where a servo keeps a number, and how it is written.

/// How a number below zero is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// There is none.
    Unsigned,
    /// *Sign-magnitude*: this bit says the direction, the bits below it how much.
    Bit(u8),
    /// Two's complement.
    Complement,
}

/// Where a number lies and how it is written. The low byte comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// Its first byte.
    pub address: u8,
    /// 1, 2 or 4.
    pub bytes: u8,
    /// Numbers below zero.
    pub sign: Sign,
}

impl Register {
    /// A byte without sign.
    pub const fn byte(address: u8) -> Self {
        Self::new(address, 1, Sign::Unsigned)
    }

    /// Two bytes without sign.
    pub const fn word(address: u8) -> Self {
        Self::new(address, 2, Sign::Unsigned)
    }

    /// Any.
    pub const fn new(address: u8, bytes: u8, sign: Sign) -> Self {
        Self {
            address,
            bytes,
            sign,
        }
    }

    /// Bytes from the beginning of this one to the end of `last`.
    pub const fn through(&self, last: Self) -> u8 {
        last.address + last.bytes - self.address
    }

    /// The number in `data`, which begins at the register `first`. `None`: it lies outside. What
    /// is beyond an `i32` becomes the largest that there is.
    pub fn decode(&self, first: Register, data: &[u8]) -> Option<i32> {
        let at = usize::from(self.address.checked_sub(first.address)?);
        let data = data.get(at..at + usize::from(self.bytes))?;
        let mut raw = [0; 4];
        raw.get_mut(..data.len())?.copy_from_slice(data);
        let raw = u32::from_le_bytes(raw);
        let bits = 8 * u32::from(self.bytes);
        Some(match self.sign {
            Sign::Bit(bit) if raw >> bit & 1 == 1 => -((raw & !(1 << bit)) as i32),
            // Moved to the highest bits and back, so that the sign is spread.
            Sign::Complement => (raw << (32 - bits)) as i32 >> (32 - bits),
            _ => i32::try_from(raw).unwrap_or(i32::MAX),
        })
    }

    /// The bytes of a number, the first [`Register::bytes`] of them. What is too large becomes the
    /// largest that there is, what is below zero and has no sign becomes 0.
    pub fn encode(&self, value: i32) -> [u8; 4] {
        let bits = 8 * u32::from(self.bytes);
        let widest = match self.sign {
            Sign::Unsigned => u64::from(u32::MAX) >> (32 - bits),
            Sign::Bit(bit) => (1 << bit) - 1,
            Sign::Complement => (1 << (bits - 1)) - 1,
        };
        let most = i64::try_from(widest).unwrap_or(i64::MAX);
        let raw = match self.sign {
            Sign::Unsigned => i64::from(value).clamp(0, most) as u32,
            Sign::Bit(bit) => {
                let magnitude = i64::from(value).abs().min(most) as u32;
                magnitude | u32::from(value < 0) << bit
            }
            Sign::Complement => i64::from(value).clamp(-most - 1, most) as u32,
        };
        raw.to_le_bytes()
    }

    /// [`Register::encode`]'s bytes, in `room`.
    pub fn encoded<'a>(&self, value: i32, room: &'a mut [u8; 4]) -> &'a [u8] {
        *room = self.encode(value);
        &room[..usize::from(self.bytes).min(4)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_in_every_form() {
        let forms = [
            (Register::byte(3), 0, 255),
            (Register::word(3), 0, 65_535),
            (Register::new(3, 4, Sign::Unsigned), 0, i32::MAX),
            (Register::new(3, 2, Sign::Bit(11)), -2047, 2047),
            (Register::new(3, 1, Sign::Complement), -128, 127),
            (Register::new(3, 2, Sign::Complement), -32_768, 32_767),
            (Register::new(3, 4, Sign::Complement), i32::MIN, i32::MAX),
        ];
        for (register, least, most) in forms {
            for value in [least, least + 1, 0, 1, most - 1, most] {
                let bytes = register.encode(value);
                assert_eq!(register.decode(register, &bytes), Some(value));
            }
            let beyond = |value: i32| register.decode(register, &register.encode(value));
            assert_eq!(beyond(i32::MAX), Some(most));
            assert_eq!(beyond(i32::MIN), Some(least));
        }
    }

    #[test]
    fn what_lies_outside_is_not_read() {
        let first = Register::byte(10);
        let data = [1, 2, 3];
        assert_eq!(Register::word(11).decode(first, &data), Some(0x302));
        assert_eq!(Register::word(12).decode(first, &data), None);
        assert_eq!(Register::byte(9).decode(first, &data), None);
        assert_eq!(first.through(Register::word(12)), 4);
    }
}
