//! Which vectors and payload keys a read returns.

use qdrant_client::qdrant::{
    PayloadExcludeSelector, PayloadIncludeSelector, VectorsSelector, WithPayloadSelector,
    WithVectorsSelector, with_payload_selector, with_vectors_selector,
};

use crate::store::{PayloadSelection, VectorSelection};

/// The message of a selection of vectors.
pub fn vector_selection_to_proto(selection: &VectorSelection) -> WithVectorsSelector {
    use with_vectors_selector::SelectorOptions::{Enable, Include};
    let options = match selection {
        VectorSelection::None => Enable(false),
        VectorSelection::All => Enable(true),
        // A list of no names means all of them to Qdrant.
        VectorSelection::Named(names) if names.is_empty() => Enable(false),
        VectorSelection::Named(names) => Include(VectorsSelector { names: names.clone() }),
    };
    WithVectorsSelector { selector_options: Some(options) }
}

/// The selection of vectors of a message; a missing one selects none.
pub fn vector_selection_from_proto(selector: Option<WithVectorsSelector>) -> VectorSelection {
    use with_vectors_selector::SelectorOptions::{Enable, Include};
    match selector.and_then(|selector| selector.selector_options) {
        None | Some(Enable(false)) => VectorSelection::None,
        Some(Enable(true)) => VectorSelection::All,
        Some(Include(named)) => VectorSelection::Named(named.names),
    }
}

/// The message of a selection of payload keys.
pub fn payload_selection_to_proto(selection: &PayloadSelection) -> WithPayloadSelector {
    use with_payload_selector::SelectorOptions::{Enable, Exclude, Include};
    let options = match selection {
        PayloadSelection::None => Enable(false),
        PayloadSelection::All => Enable(true),
        PayloadSelection::Include(keys) if keys.is_empty() => Enable(false),
        PayloadSelection::Include(keys) => Include(PayloadIncludeSelector { fields: keys.clone() }),
        PayloadSelection::Exclude(keys) => Exclude(PayloadExcludeSelector { fields: keys.clone() }),
    };
    WithPayloadSelector { selector_options: Some(options) }
}

/// The selection of payload keys of a message; a missing one selects none.
pub fn payload_selection_from_proto(selector: Option<WithPayloadSelector>) -> PayloadSelection {
    use with_payload_selector::SelectorOptions::{Enable, Exclude, Include};
    match selector.and_then(|selector| selector.selector_options) {
        None | Some(Enable(false)) => PayloadSelection::None,
        Some(Enable(true)) => PayloadSelection::All,
        Some(Include(keys)) => PayloadSelection::Include(keys.fields),
        Some(Exclude(keys)) => PayloadSelection::Exclude(keys.fields),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_comes_back() {
        let names = vec!["a".to_owned(), "b".to_owned()];
        for selection in
            [VectorSelection::None, VectorSelection::All, VectorSelection::Named(names.clone())]
        {
            let sent = vector_selection_to_proto(&selection);
            assert_eq!(vector_selection_from_proto(Some(sent)), selection);
        }
        for selection in [
            PayloadSelection::None,
            PayloadSelection::All,
            PayloadSelection::Include(names.clone()),
            PayloadSelection::Exclude(names),
        ] {
            let sent = payload_selection_to_proto(&selection);
            assert_eq!(payload_selection_from_proto(Some(sent)), selection);
        }
        assert_eq!(vector_selection_from_proto(None), VectorSelection::None);
        assert_eq!(payload_selection_from_proto(None), PayloadSelection::None);
    }

    #[test]
    fn a_list_of_nothing_selects_nothing() {
        let vectors = vector_selection_to_proto(&VectorSelection::Named(Vec::new()));
        assert_eq!(vector_selection_from_proto(Some(vectors)), VectorSelection::None);
        let payload = payload_selection_to_proto(&PayloadSelection::Include(Vec::new()));
        assert_eq!(payload_selection_from_proto(Some(payload)), PayloadSelection::None);
    }
}
