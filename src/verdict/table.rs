//! Enums that are declared as a table.

/// Declares an enum with a row of constants for each variant, so that a variant, its label and its
/// other constants are in one place.
///
/// The enum gets `ALL`, every variant in the order of the table, and a private `row`.
macro_rules! table {
    (
        $(#[$doc:meta])*
        pub enum $name:ident: $row_type:ty {
            $($(#[$variant_doc:meta])* $variant:ident = $row:expr,)+
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Every variant, so that each metric starts at 0.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            const fn row(self) -> $row_type {
                match self {
                    $(Self::$variant => $row,)+
                }
            }
        }
    };
}

pub(super) use table;
