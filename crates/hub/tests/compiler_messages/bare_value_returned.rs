use hubcast::{CallerContext, Hub, HubResult, Methods};

struct MyHub;

impl Hub for MyHub {
    fn methods() -> Methods<Self> {
        Methods::new().method("Act", Self::act)
    }
}

impl MyHub {
    async fn act(&self, ctx: &CallerContext) -> String {
        let _: HubResult = Ok(());
        ctx.connection_id().to_owned()
    }
}

fn main() {}
