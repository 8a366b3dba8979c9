use hubcast::{CallerContext, Hub, HubResult, Methods};

struct MyHub;

impl Hub for MyHub {
    fn methods() -> Methods<Self> {
        Methods::new().method("Act", Self::act)
    }
}

impl MyHub {
    async fn act(&self, ctx: &CallerContext, text: String) -> HubResult {
        ctx.clients().all().send("Message", text).await?;
        Ok(())
    }
}

fn main() {}
