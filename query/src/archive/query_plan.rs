//! What to ask an archive. A plan selects every record that the matcher would, and maybe more.

use chronik_format::archive::terms::{RecordTerm, header_term, key_term};
use chronik_format::job::{IndexSettings, ValueFormat};
use chronik_format::search::{Phrase, Query};
use tantivy::Term;
use tantivy::schema::Field;

use super::spelling::SpellingAutomaton;

/// The index's fields, as [`chronik_format::archive::terms`] names them.
#[derive(Clone, Copy, Debug)]
pub(super) struct IndexFields {
    pub key: Field,
    pub value: Field,
    pub headers: Field,
}

/// How an archive's text was analysed.
#[derive(Clone, Copy, Debug)]
pub(super) struct ArchiveAnalysis {
    pub settings: IndexSettings,
    /// Whether case was folded and JSON decoded, where the settings say so; otherwise words were lower-cased and JSON
    /// was text.
    pub folded: bool,
}

impl ArchiveAnalysis {
    fn decodes_json(self) -> bool {
        self.folded && self.settings.value_format.decodes_json()
    }
}

/// A set of documents, by their terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TermSelection {
    All,
    Nothing,
    Term(Term),
    /// Any term that may stand for a word.
    Spelled(Field, SpellingAutomaton),
    /// At least two terms in consecutive positions.
    Phrase(Vec<Term>),
    AllOf(Vec<TermSelection>),
    AnyOf(Vec<TermSelection>),
    Not(Box<TermSelection>),
}

impl TermSelection {
    /// Every term that is known before it is looked up, and whether its positions are wanted.
    pub(super) fn terms(&self) -> Vec<(&Term, bool)> {
        match self {
            Self::All | Self::Nothing | Self::Spelled(..) => Vec::new(),
            Self::Term(term) => vec![(term, false)],
            Self::Phrase(terms) => terms.iter().map(|term| (term, true)).collect(),
            Self::AllOf(parts) | Self::AnyOf(parts) => parts.iter().flat_map(Self::terms).collect(),
            Self::Not(part) => part.terms(),
        }
    }
}

#[derive(Debug)]
pub(super) struct QueryPlan {
    pub selection: TermSelection,
    /// Whether it selects exactly what the matcher would.
    pub exact: bool,
}

/// On which side of the truth a part of the plan may err: what stands below NOT must not select too much.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bound {
    Upper,
    Lower,
}

impl Bound {
    fn opposite(self) -> Self {
        match self {
            Self::Upper => Self::Lower,
            Self::Lower => Self::Upper,
        }
    }
}

impl QueryPlan {
    /// For a topic that is searched as `settings` say, in an archive that was built as `built` says.
    pub(super) fn new(query: &Query, fields: IndexFields, settings: IndexSettings, built: ArchiveAnalysis) -> Self {
        let mut planner = Planner { fields, settings, built, exact: true };
        let selection = planner.part(query, Bound::Upper);
        Self { selection, exact: planner.exact }
    }
}

struct Planner {
    fields: IndexFields,
    settings: IndexSettings,
    built: ArchiveAnalysis,
    exact: bool,
}

impl Planner {
    fn part(&mut self, query: &Query, bound: Bound) -> TermSelection {
        match query {
            Query::All => TermSelection::All,
            Query::Key(key) => {
                let term = key_term(key);
                let exact = term.exact;
                self.with_terms(bound, exact, vec![bytes(self.fields.key, &term)])
            }
            Query::Header { name, phrase } => self.header(name, phrase, bound),
            Query::Value(phrase) => self.value(phrase, bound),
            Query::And(parts) => TermSelection::AllOf(self.parts(parts, bound)),
            Query::Or(parts) => TermSelection::AnyOf(self.parts(parts, bound)),
            Query::Not(part) => TermSelection::Not(Box::new(self.part(part, bound.opposite()))),
        }
    }

    fn parts(&mut self, parts: &[Query], bound: Bound) -> Vec<TermSelection> {
        parts.iter().map(|part| self.part(part, bound)).collect()
    }

    fn header(&mut self, name: &str, phrase: &Phrase, bound: Bound) -> TermSelection {
        if !self.built.folded {
            let prefix = header_term(name.as_bytes(), "").bytes;
            return self.spelled(self.fields.headers, &prefix, phrase, false, bound);
        }
        let terms: Vec<_> = phrase.tokens.iter().map(|token| header_term(name.as_bytes(), token)).collect();
        let exact = terms.len() <= 1 && terms.iter().all(|term| term.exact);
        let terms = terms.iter().map(|term| bytes(self.fields.headers, term)).collect();
        self.with_terms(bound, exact, terms)
    }

    fn value(&mut self, phrase: &Phrase, bound: Bound) -> TermSelection {
        if self.settings.value_format == ValueFormat::None {
            return TermSelection::Nothing;
        }
        if self.built.settings.value_format == ValueFormat::None {
            return self.inexact(bound, TermSelection::All);
        }
        match (self.settings.value_format.decodes_json(), self.built.decodes_json()) {
            // Escaped text can't be distinguished from decoded words.
            (false, true) => return self.inexact(bound, TermSelection::All),
            (decodes, built) if decodes != built || !self.built.folded => {
                return self.spelled(self.fields.value, b"", phrase, decodes, bound);
            }
            _ => {}
        }
        let terms: Vec<_> = phrase.tokens.iter().map(|token| Term::from_field_text(self.fields.value, token)).collect();
        if terms.len() > 1 && self.built.settings.positions {
            return TermSelection::Phrase(terms);
        }
        self.with_terms(bound, terms.len() <= 1, terms)
    }

    /// Stands for records that have all words in a way that another analysis may have spelled them.
    fn spelled(&mut self, field: Field, prefix: &[u8], phrase: &Phrase, escapes: bool, bound: Bound) -> TermSelection {
        let word = |token: &String| match SpellingAutomaton::new(prefix, token, escapes) {
            Some(spelling) => TermSelection::Spelled(field, spelling),
            None => TermSelection::All,
        };
        let words = phrase.tokens.iter().map(word).collect();
        self.inexact(bound, TermSelection::AllOf(words))
    }

    /// Stands for records that have all of the terms, and, unless that is `exact`, something else besides.
    fn with_terms(&mut self, bound: Bound, exact: bool, terms: Vec<Term>) -> TermSelection {
        let mut terms: Vec<_> = terms.into_iter().map(TermSelection::Term).collect();
        let all = match terms.len() {
            0 => return TermSelection::Nothing,
            1 => terms.remove(0),
            _ => TermSelection::AllOf(terms),
        };
        if exact { all } else { self.inexact(bound, all) }
    }

    /// Stands for some of the records that `upper` selects: for none, where too much would be wrong.
    fn inexact(&mut self, bound: Bound, upper: TermSelection) -> TermSelection {
        self.exact = false;
        match bound {
            Bound::Upper => upper,
            Bound::Lower => TermSelection::Nothing,
        }
    }
}

fn bytes(field: Field, term: &RecordTerm) -> Term {
    Term::from_field_bytes(field, &term.bytes)
}
