//! Structures that travel field by field.

/// A structure whose fields travel one after the other; any of them may be any value.
macro_rules! record {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $field:ident: $kind:ty),* $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[$doc])* pub $field: $kind),* }

        impl rpc::Value for $name {
            const WORDS: usize = 0 $(+ <$kind as rpc::Value>::WORDS)*;
            const ITEMS: usize = 0 $(+ <$kind as rpc::Value>::ITEMS)*;
            fn put(&self, to: &mut rpc::Writer<'_>) {
                $(rpc::Value::put(&self.$field, to);)*
            }
            fn take(from: &mut rpc::Reader<'_>) -> Result<Self, rpc::Bad> {
                Ok($name { $($field: <$kind as rpc::Value>::take(from)?),* })
            }
        }
    };
}
