//! What the harness passes in the environment, and what each tenant must see: the clients' common part.

use uuid::Uuid;

/// A tenant of the fixture. The programs run the same code for each of them.
#[derive(Debug)]
pub struct Tenant {
    pub name: &'static str,
    pub id: Uuid,
    pub users: [i32; 3],
    pub names: [&'static str; 3],
    pub orders: &'static [i32],
    pub documents: &'static [i32],
    /// Ids for rows of its own: two tenants share the primary keys of one table.
    pub base: i32,
    /// An id of the other tenant's.
    pub foreign: i32,
}

pub const TENANTS: [Tenant; 2] = [
    Tenant {
        name: "A",
        id: Uuid::from_u128(0xaaaa_aaaa_aaaa_4aaa_8aaa_aaaa_aaaa_aaaa),
        users: [1, 2, 3],
        names: ["Ann", "Art", "Ada"],
        orders: &[1, 2, 3],
        documents: &[1, 2, 3],
        base: 10_000,
        foreign: 101,
    },
    Tenant {
        name: "B",
        id: Uuid::from_u128(0xbbbb_bbbb_bbbb_4bbb_8bbb_bbbb_bbbb_bbbb),
        users: [101, 102, 103],
        names: ["Bob", "Bea", "Ann"],
        orders: &[101, 102],
        documents: &[101, 102],
        base: 20_000,
        foreign: 1,
    },
];

impl Tenant {
    /// The other one.
    pub fn stranger(&self) -> Uuid {
        TENANTS.iter().find(|other| other.id != self.id).expect("there are two").id
    }

    /// `postgres://…` with the token as the password.
    pub fn url(&self) -> String {
        let of = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
        let (port, token) = (
            of(&format!("HEDGEROW_PORT_{}", self.name)),
            of(&format!("HEDGEROW_TOKEN_{}", self.name)),
        );
        format!("postgres://application:{token}@127.0.0.1:{port}/{}", of("HEDGEROW_DATABASE"))
    }
}
