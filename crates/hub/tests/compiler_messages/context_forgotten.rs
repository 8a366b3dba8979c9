use hubcast::{CallerContext, Hub, HubResult, Methods};

struct MyHub;

impl Hub for MyHub {
    fn methods() -> Methods<Self> {
        Methods::new().method("Act", Self::act)
    }
}

impl MyHub {
    async fn act(&self, _: String) -> HubResult {
        let _: Option<&CallerContext> = None;
        Ok(())
    }
}

fn main() {}
