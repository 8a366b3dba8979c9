use futures_util::{Stream, stream};
use hubcast::{CallerContext, Hub, HubResult, Methods};

struct MyHub;

impl Hub for MyHub {
    fn methods() -> Methods<Self> {
        Methods::new().method("Count", Self::count)
    }
}

impl MyHub {
    fn count(&self, _: &CallerContext) -> impl Stream<Item = HubResult<u32>> {
        stream::iter([Ok(1)])
    }
}

fn main() {}
