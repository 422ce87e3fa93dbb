//! docs/openapi.yaml, and answers held against it. What it has seen is counted, so that the file can also be held against the
//! answers: a field that none of them has is a field that the file has made up.

use crate::support::client::Response;
use jsonschema::Validator;
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

const BASE: &str = "/api/v1";

pub(crate) struct Contract {
    /// The file, with every object closed: to clients fields may be added, to us none without a word.
    document: Value,
    /// By a schema's name; made when first needed.
    validators: RefCell<BTreeMap<String, Validator>>,
    /// How often objects of a schema were seen, under an empty name, and each of their fields.
    seen: RefCell<BTreeMap<String, BTreeMap<String, usize>>>,
    /// Operations and the statuses that they have answered.
    answered: RefCell<BTreeSet<(String, String)>>,
}

/// A method and a path's template, with what the file says of them.
pub(crate) struct Operation<'a> {
    pub(crate) method: String,
    pub(crate) template: &'a str,
    pub(crate) about: &'a Value,
}

impl Operation<'_> {
    fn id(&self) -> String {
        self.about["operationId"].as_str().expect("an operation has a name").to_owned()
    }

    /// `PUT /pools/app/servers/app2/state`: with the file's examples of names, without the base of the path.
    pub(crate) fn request(&self) -> String {
        let path = self.template.replace("{pool}", "app").replace("{server}", "app2");
        let path = path.replace("{client}", "192.0.2.7");
        format!("{} {}", self.method, path.trim_start_matches(BASE))
    }

    fn body(&self) -> &Value {
        &self.about["requestBody"]["content"]["application/json"]
    }

    /// The file's example of a body; nothing if the operation has none.
    pub(crate) fn example(&self) -> String {
        let example = &self.body()["example"];
        if example.is_null() { String::new() } else { example.to_string() }
    }

    pub(crate) fn parameters(&self) -> &[Value] {
        self.about["parameters"].as_array().map_or(&[], Vec::as_slice)
    }
}

impl Contract {
    pub(crate) fn read() -> Self {
        let mut document: Value =
            serde_yaml::from_str(include_str!("../../../docs/openapi.yaml")).expect("the file is YAML");
        for schema in schemas_mut(&mut document).values_mut() {
            if schema.get("properties").is_some() && schema.get("additionalProperties").is_none() {
                schema["additionalProperties"] = json!(false);
            }
        }
        Self {
            document,
            validators: RefCell::default(),
            seen: RefCell::default(),
            answered: RefCell::default(),
        }
    }

    /// Words in schemas that are none of JSON Schema's: a comma between braces makes one where nobody looks.
    pub(crate) fn unknown_words(&self) -> Vec<String> {
        fn look(place: &str, schema: &Value, found: &mut Vec<String>) {
            for (word, value) in schema.as_object().into_iter().flatten() {
                let place = format!("{place}/{word}");
                match word.as_str() {
                    "properties" => value.as_object().into_iter().flatten().for_each(|(name, property)| {
                        look(&format!("{place}/{name}"), property, found);
                    }),
                    "items" | "additionalProperties" => look(&place, value, found),
                    "anyOf" => {
                        value.as_array().into_iter().flatten().for_each(|way| look(&place, way, found))
                    }
                    "$ref" | "default" | "dependentRequired" | "description" | "enum" | "format"
                    | "maxItems" | "maximum" | "minItems" | "minimum" | "pattern" | "required" | "type" => {}
                    _ => found.push(place),
                }
            }
        }
        let mut found = Vec::new();
        for (name, schema) in self.document["components"]["schemas"].as_object().into_iter().flatten() {
            look(name, schema, &mut found);
        }
        found
    }

    pub(crate) fn operations(&self) -> Vec<Operation<'_>> {
        let paths = self.document["paths"].as_object().expect("there are paths");
        paths
            .iter()
            .flat_map(|(template, methods)| {
                let methods = methods.as_object().expect("a path has methods");
                methods
                    .iter()
                    .filter(|(name, _)| *name != "parameters")
                    .map(move |(method, about)| Operation { method: method.to_uppercase(), template, about })
            })
            .collect()
    }

    /// The operation that a request is for, like `GET /status`.
    #[track_caller]
    pub(crate) fn operation(&self, request: &str) -> Operation<'_> {
        let (method, target) = request.split_once(' ').expect("a method and a path");
        let path = format!("{BASE}{}", target.split('?').next().unwrap_or_default());
        let fits = |template: &str| {
            let (wanted, given) = (template.split('/'), path.split('/'));
            wanted.clone().count() == given.clone().count()
                && wanted.zip(given).all(|(wanted, given)| wanted.starts_with('{') || wanted == given)
        };
        let found = self.operations().into_iter().find(|one| one.method == method && fits(one.template));
        found.unwrap_or_else(|| panic!("{request} is not in the file"))
    }

    /// Holds an answer against what the file says of this operation.
    #[track_caller]
    pub(crate) fn hold(&self, operation: &Operation<'_>, response: &Response) -> Value {
        let what = format!("{} {}: {}", operation.method, operation.template, response.status);
        let status = response.status.to_string();
        let said = self.resolve(&operation.about["responses"][&status]);
        assert!(said.is_object(), "{what} is not in the file: {}", response.text());
        assert_eq!(response.field("content-type"), "application/json", "{what}");
        for (name, header) in said["headers"].as_object().into_iter().flatten() {
            let value = response.field(&name.to_lowercase());
            assert!(!value.is_empty() || header["required"] != true, "{what} has no {name}");
        }
        let answer: Value = serde_json::from_str(&response.text()).expect("answers are JSON");
        let schema = &said["content"]["application/json"]["schema"];
        self.validate(name_of(schema), &answer, &what);
        self.count(schema, &answer);
        self.answered.borrow_mut().insert((operation.id(), status));
        answer
    }

    #[track_caller]
    fn validate(&self, schema: &str, value: &Value, what: &str) {
        let mut validators = self.validators.borrow_mut();
        let validator = validators.entry(schema.to_owned()).or_insert_with(|| self.validator(schema));
        let evaluation = validator.evaluate(value);
        let problems: Vec<_> = evaluation
            .iter_errors()
            .map(|problem| format!("{}: {}", problem.instance_location, problem.error))
            .collect();
        assert!(problems.is_empty(), "{what} is no {schema}: {problems:#?}\n{value:#}");
    }

    /// Counts the objects in a value that fits this schema, and their fields.
    fn count(&self, schema: &Value, value: &Value) {
        match value {
            Value::Null => {}
            _ if schema["anyOf"].is_array() => self.count(&schema["anyOf"][0], value),
            _ if schema["$ref"].is_string() => {
                if let Value::Object(fields) = value {
                    let mut seen = self.seen.borrow_mut();
                    let counts = seen.entry(name_of(schema).to_owned()).or_default();
                    for field in fields.keys().map(String::as_str).chain([""]) {
                        *counts.entry(field.to_owned()).or_default() += 1;
                    }
                }
                self.count(self.resolve(schema), value);
            }
            Value::Array(items) => items.iter().for_each(|item| self.count(&schema["items"], item)),
            Value::Object(fields) => fields.iter().for_each(|(name, field)| {
                let known = schema["properties"].get(name);
                self.count(known.unwrap_or(&schema["additionalProperties"]), field);
            }),
            _ => {}
        }
    }

    /// Whether the file lets this body pass.
    pub(crate) fn takes(&self, operation: &Operation<'_>, body: &Value) -> bool {
        let schema = name_of(&operation.body()["schema"]);
        self.validator(schema).is_valid(body)
    }

    /// The fields of the body, if there is one.
    pub(crate) fn fields(&self, operation: &Operation<'_>) -> Vec<String> {
        let schema = name_of(&operation.body()["schema"]);
        let properties = self.document["components"]["schemas"][schema]["properties"].as_object();
        properties.into_iter().flatten().map(|(name, _)| name.clone()).collect()
    }

    fn validator(&self, schema: &str) -> Validator {
        let whole = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": "urn:evenkeel:api",
            "$ref": format!("#/components/schemas/{schema}"),
            "components": { "schemas": self.document["components"]["schemas"] },
        });
        let options = jsonschema::options().should_validate_formats(true);
        options.build(&whole).unwrap_or_else(|error| panic!("{schema}: {error}"))
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(place) => {
                self.document.pointer(&place[1..]).unwrap_or_else(|| panic!("there is no {place}"))
            }
            None => value,
        }
    }

    /// What the file says and no answer has shown, or the reverse.
    pub(crate) fn unheld(&self) -> Vec<String> {
        let (seen, none) = (self.seen.borrow(), BTreeMap::new());
        let mut unheld = Vec::new();
        for (name, schema) in self.document["components"]["schemas"].as_object().into_iter().flatten() {
            let Some(fields) = schema["properties"].as_object() else { continue };
            // What clients send has been asked for by itself.
            if name.ends_with("Wish") {
                continue;
            }
            let counts = seen.get(name).unwrap_or(&none);
            let count = |field: &str| counts.get(field).copied().unwrap_or_default();
            for field in fields.keys() {
                let is_required =
                    schema["required"].as_array().is_some_and(|all| all.contains(&json!(field)));
                match (count(field), is_required) {
                    (0, _) => unheld.push(format!("{name}.{field}: no answer has it")),
                    (n, false) if n == count("") => {
                        unheld.push(format!("{name}.{field}: every answer has it, so it is required"));
                    }
                    _ => {}
                }
            }
        }
        let answered = self.answered.borrow();
        for operation in self.operations() {
            for status in operation.about["responses"].as_object().expect("there are responses").keys() {
                if !answered.contains(&(operation.id(), status.clone())) {
                    unheld.push(format!("{}: {status} was not answered", operation.id()));
                }
            }
        }
        unheld
    }
}

fn schemas_mut(document: &mut Value) -> &mut Map<String, Value> {
    document["components"]["schemas"].as_object_mut().expect("there are schemas")
}

/// The name of the schema that is referred to.
#[track_caller]
fn name_of(schema: &Value) -> &str {
    let place = schema["$ref"].as_str().and_then(|place| place.strip_prefix("#/components/schemas/"));
    place.unwrap_or_else(|| panic!("{schema} refers to no schema by its name"))
}
