//! Certificates that clients refuse, or soon will.

use super::{found, good, Host, Level, Mend, Outcome, Plan, Worth};

pub fn certificates(_: &Host, plan: &Plan) -> Outcome {
    let Some(troubles) = &plan.certificates else {
        return good("TLS is not spoken");
    };
    if troubles.is_empty() {
        return good("valid for 14 days and more; keys are readable by their owner and group");
    }
    let mend = Mend::Advice(
        "put new files in the same places: they are taken over within a second, without a restart"
            .into(),
    );
    let worth = Worth::Plain("clients go on to connect, and nobody else has the key");
    found(Level::Warning, troubles.join("; "), mend, worth)
}
