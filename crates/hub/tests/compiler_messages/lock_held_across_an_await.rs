use hubcast::{CallerContext, Hub, HubResult, Methods};

struct MyHub;

impl Hub for MyHub {
    fn methods() -> Methods<Self> {
        Methods::new().method("Act", Self::act)
    }
}

impl MyHub {
    async fn act(&self, ctx: &CallerContext) -> HubResult {
        let lock = std::sync::Mutex::new(0);
        let guard = lock.lock().unwrap();
        ctx.clients().all().send("Count", (*guard,)).await?;
        drop(guard);
        Ok(())
    }
}

fn main() {}
