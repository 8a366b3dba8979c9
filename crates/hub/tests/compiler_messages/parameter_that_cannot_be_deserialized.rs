use hubcast::{CallerContext, Hub, HubResult, Methods};

struct MyHub;

impl Hub for MyHub {
    fn methods() -> Methods<Self> {
        Methods::new().method("Act", Self::act)
    }
}

struct Opaque;

impl MyHub {
    async fn act(&self, _: &CallerContext, _: Opaque) -> HubResult {
        Ok(())
    }
}

fn main() {}
