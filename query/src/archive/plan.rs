//! A query as Tantivy's. The plan selects every record that the matcher would, and maybe more.

use chronik_core::archive::terms::{RecordTerm, header_term, key_term};
use chronik_core::job::{IndexSettings, ValueFormat};
use chronik_core::search::{Phrase, Query};
use tantivy::Term;
use tantivy::query::{AllQuery, BooleanQuery, EmptyQuery, Occur, PhraseQuery, Query as TantivyQuery, TermQuery};
use tantivy::schema::{Field, IndexRecordOption};

/// The index's fields, as [`chronik_core::archive::terms`] names them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields {
    pub key: Field,
    pub value: Field,
    pub headers: Field,
}

/// What to ask an archive.
#[derive(Debug)]
pub(super) struct Plan {
    pub query: Box<dyn TantivyQuery>,
    /// Whether it selects exactly what the matcher would.
    pub exact: bool,
}

/// On which side of the truth a part of the plan may err: what stands below NOT must not select too much.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bound {
    Upper,
    Lower,
}

impl Plan {
    /// For a topic that is searched as `settings` say, in an archive that was built as `built` says.
    pub(super) fn new(query: &Query, fields: Fields, settings: IndexSettings, built: IndexSettings) -> Self {
        let mut planner = Planner {
            fields,
            settings,
            built,
            exact: true,
        };
        let query = planner.part(query, Bound::Upper);
        Self {
            query,
            exact: planner.exact,
        }
    }
}

struct Planner {
    fields: Fields,
    settings: IndexSettings,
    built: IndexSettings,
    exact: bool,
}

impl Planner {
    fn part(&mut self, query: &Query, bound: Bound) -> Box<dyn TantivyQuery> {
        match query {
            Query::All => Box::new(AllQuery),
            Query::Key(key) => {
                let term = key_term(key);
                let exact = term.exact;
                self.at_most(bound, exact, vec![self.bytes(self.fields.key, &term)])
            }
            Query::Header { name, phrase } => self.header(name, phrase, bound),
            Query::Value(phrase) => self.value(phrase, bound),
            Query::And(parts) => Box::new(BooleanQuery::intersection(self.parts(parts, bound))),
            Query::Or(parts) => Box::new(BooleanQuery::union(self.parts(parts, bound))),
            Query::Not(part) => {
                let excluded = match bound {
                    Bound::Upper => self.part(part, Bound::Lower),
                    Bound::Lower => self.part(part, Bound::Upper),
                };
                Box::new(BooleanQuery::new(vec![
                    (Occur::Must, Box::new(AllQuery)),
                    (Occur::MustNot, excluded),
                ]))
            }
        }
    }

    fn parts(&mut self, parts: &[Query], bound: Bound) -> Vec<Box<dyn TantivyQuery>> {
        parts.iter().map(|part| self.part(part, bound)).collect()
    }

    fn header(&mut self, name: &str, phrase: &Phrase, bound: Bound) -> Box<dyn TantivyQuery> {
        let terms: Vec<_> = phrase
            .tokens
            .iter()
            .map(|token| header_term(name.as_bytes(), token))
            .collect();
        let exact = terms.len() <= 1 && terms.iter().all(|term| term.exact);
        let terms = terms.iter().map(|term| self.bytes(self.fields.headers, term)).collect();
        self.at_most(bound, exact, terms)
    }

    fn value(&mut self, phrase: &Phrase, bound: Bound) -> Box<dyn TantivyQuery> {
        if self.settings.value_format == ValueFormat::None {
            return Box::new(EmptyQuery);
        }
        if self.built.value_format == ValueFormat::None {
            return self.inexact(bound, Box::new(AllQuery));
        }
        let terms: Vec<_> = phrase
            .tokens
            .iter()
            .map(|token| Term::from_field_text(self.fields.value, token))
            .collect();
        if terms.len() > 1 && self.built.positions {
            return Box::new(PhraseQuery::new(terms));
        }
        self.at_most(bound, terms.len() <= 1, terms)
    }

    fn bytes(&self, field: Field, term: &RecordTerm) -> Term {
        Term::from_field_bytes(field, &term.bytes)
    }

    /// Records that have all of the terms: exactly the records looked for, or some more.
    fn at_most(&mut self, bound: Bound, exact: bool, terms: Vec<Term>) -> Box<dyn TantivyQuery> {
        let mut queries: Vec<Box<dyn TantivyQuery>> = terms
            .into_iter()
            .map(|term| Box::new(TermQuery::new(term, IndexRecordOption::Basic)) as _)
            .collect();
        let all = match queries.pop() {
            None => return Box::new(EmptyQuery),
            Some(only) if queries.is_empty() => only,
            Some(last) => {
                queries.push(last);
                Box::new(BooleanQuery::intersection(queries))
            }
        };
        if exact { all } else { self.inexact(bound, all) }
    }

    /// Stands for fewer records than `upper` selects: for none, where too much would be wrong.
    fn inexact(&mut self, bound: Bound, upper: Box<dyn TantivyQuery>) -> Box<dyn TantivyQuery> {
        self.exact = false;
        match bound {
            Bound::Upper => upper,
            Bound::Lower => Box::new(EmptyQuery),
        }
    }
}
