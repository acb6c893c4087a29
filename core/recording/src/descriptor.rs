//! What the messages of a log are made of, in protobuf's own words, for tools that know MCAP and
//! protobuf and nothing of hilt.

use prost::Message;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto, FileDescriptorSet, OneofDescriptorProto, field_descriptor_proto::Label,
};

pub use prost_types::field_descriptor_proto::Type;

/// The package of every message here.
const PACKAGE: &str = "hilt";

/// A field of a message.
#[derive(Clone, Debug)]
pub struct Field(FieldDescriptorProto);

/// A message.
#[derive(Clone, Debug)]
pub struct Descriptor(DescriptorProto);

/// An enumeration.
#[derive(Clone, Debug)]
pub struct Enumeration(EnumDescriptorProto);

/// The field of this number, name and type; see [`Field::of`] for messages and enumerations.
pub fn field(number: i32, name: &str, kind: Type) -> Field {
    Field(FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(Label::Optional as i32),
        r#type: Some(kind as i32),
        ..FieldDescriptorProto::default()
    })
}

impl Field {
    /// A list of it.
    pub fn repeated(mut self) -> Self {
        self.0.label = Some(Label::Repeated as i32);
        self
    }

    /// Its absence is told from its zero.
    pub fn optional(mut self) -> Self {
        self.0.proto3_optional = Some(true);
        self
    }

    /// Its message or enumeration is the one of this name.
    pub fn of(self, name: &str) -> Self {
        self.of_package(PACKAGE, name)
    }

    /// As [`Field::of`], for one of another package.
    pub(crate) fn of_package(mut self, package: &str, name: &str) -> Self {
        self.0.type_name = Some(format!(".{package}.{name}"));
        self
    }
}

/// The message of this name and these fields.
pub fn message(name: &str, fields: Vec<Field>) -> Descriptor {
    let mut choices = Vec::new();
    let mut place = |Field(mut field): Field| {
        // What proto3 calls `optional` is a choice of one.
        if field.proto3_optional == Some(true) {
            field.oneof_index = Some(choices.len() as i32);
            choices.push(OneofDescriptorProto {
                name: Some(format!("_{}", field.name())),
                options: None,
            });
        }
        field
    };
    let field = fields.into_iter().map(&mut place).collect();
    Descriptor(DescriptorProto {
        name: Some(name.to_owned()),
        field,
        oneof_decl: choices,
        ..DescriptorProto::default()
    })
}

/// The enumeration of this name: its values' numbers are their places, from 0.
pub fn enumeration<S: Into<String>>(
    name: &str,
    values: impl IntoIterator<Item = S>,
) -> Enumeration {
    let values = (0..)
        .zip(values)
        .map(|(number, name)| EnumValueDescriptorProto {
            name: Some(name.into()),
            number: Some(number),
            options: None,
        });
    Enumeration(EnumDescriptorProto {
        name: Some(name.to_owned()),
        value: values.collect(),
        ..EnumDescriptorProto::default()
    })
}

/// The schema as MCAP wants it: a serialized `FileDescriptorSet`. Messages are called `hilt.<name>`.
pub fn schema(messages: Vec<Descriptor>, enumerations: Vec<Enumeration>) -> Vec<u8> {
    set(vec![file(PACKAGE, messages, enumerations, &[])])
}

/// The messages of a package, which may use those of others.
pub(crate) fn file(
    package: &str,
    messages: Vec<Descriptor>,
    enumerations: Vec<Enumeration>,
    uses: &[&FileDescriptorProto],
) -> FileDescriptorProto {
    FileDescriptorProto {
        name: Some(format!("{package}.proto")),
        package: Some(package.to_owned()),
        syntax: Some("proto3".to_owned()),
        dependency: uses.iter().map(|file| file.name().to_owned()).collect(),
        message_type: messages.into_iter().map(|message| message.0).collect(),
        enum_type: enumerations.into_iter().map(|one| one.0).collect(),
        ..FileDescriptorProto::default()
    }
}

/// Packages as MCAP wants them, each after those that it uses.
pub(crate) fn set(file: Vec<FileDescriptorProto>) -> Vec<u8> {
    FileDescriptorSet { file }.encode_to_vec()
}
