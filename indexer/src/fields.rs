//! The index's fields, and a record's document: see [`chronik_format::archive::terms`].

use chronik_format::archive::terms::{HEADERS, KEY, VALUE, header_term, key_term};
use chronik_format::batch::Record;
use chronik_format::job::{IndexSettings, ValueFormat};
use chronik_format::search::{ANALYSIS, tokens};
use tantivy::schema::{BytesOptions, Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::{TextAnalyzer, TokenizerManager};
use tantivy::{Index, IndexBuilder, IndexSettings as TantivySettings, TantivyDocument};

use crate::tokenizer::WordTokenizer;

#[derive(Clone, Debug)]
pub(crate) struct IndexFields {
    schema: Schema,
    key: Field,
    value: Field,
    headers: Field,
    values: ValueFormat,
}

impl IndexFields {
    pub(crate) fn new(settings: IndexSettings) -> Self {
        let words =
            TextFieldIndexing::default().set_tokenizer(ANALYSIS).set_fieldnorms(false).set_index_option(match settings
                .positions
            {
                true => IndexRecordOption::WithFreqsAndPositions,
                false => IndexRecordOption::Basic,
            });
        let mut schema = Schema::builder();
        let key = schema.add_bytes_field(KEY, BytesOptions::default().set_indexed());
        let value = schema.add_text_field(VALUE, TextOptions::default().set_indexing_options(words));
        let headers = schema.add_bytes_field(HEADERS, BytesOptions::default().set_indexed());
        Self { schema: schema.build(), key, value, headers, values: settings.value_format }
    }

    /// An index of these fields, in which one thread does everything.
    pub(crate) fn index(&self) -> IndexBuilder {
        let tokenizers = TokenizerManager::default();
        tokenizers.register(ANALYSIS, TextAnalyzer::from(WordTokenizer::new(self.values)));
        let settings = TantivySettings { docstore_compress_dedicated_thread: false, ..Default::default() };
        Index::builder().schema(self.schema.clone()).settings(settings).tokenizers(tokenizers)
    }

    pub(crate) fn document(&self, record: &Record) -> TantivyDocument {
        let mut document = TantivyDocument::default();
        if let Some(key) = &record.key {
            document.add_bytes(self.key, &key_term(key).bytes);
        }
        if let Some(value) = record.value.as_ref().filter(|_| self.values != ValueFormat::None) {
            // Replacement characters separate words as the bytes that they stand for do.
            document.add_text(self.value, String::from_utf8_lossy(value));
        }
        for header in &record.headers {
            for word in header.value.iter().flat_map(|value| tokens(value)) {
                document.add_bytes(self.headers, &header_term(&header.key, &word.text).bytes);
            }
        }
        document
    }
}
