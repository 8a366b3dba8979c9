use hubcast::{CallerContext, Hub, HubResult, Methods};

struct MyHub;

impl Hub for MyHub {
    fn methods() -> Methods<Self> {
        Methods::new().stream("Count", Self::count)
    }
}

impl MyHub {
    async fn count(&self, _: &CallerContext) -> HubResult<u32> {
        Ok(1)
    }
}

fn main() {}
