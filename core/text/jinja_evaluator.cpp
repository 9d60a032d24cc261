#include "core/text/jinja_evaluator.h"

#include <algorithm>

#include "core/text/jinja_bounds.h"
#include "core/text/jinja_format.h"
#include "core/text/jinja_functions.h"
#include "core/text/jinja_lexer.h"
#include "core/text/jinja_names.h"
#include "core/text/jinja_operators.h"
#include "core/text/jinja_texts.h"
#include "kernels/check.h"

namespace pleat::jinja {

// A macro sees what its definition sees. It is a name there itself, so it does not keep the scope alive.
struct Macro {
  const Statement& statement;
  std::weak_ptr<Scope> scope;
};

namespace {

constexpr int kDeepestCall = 20;

struct Break {};
struct Continue {};

class Evaluator {
 public:
  Evaluator(std::map<std::string, Value> globals, std::time_t now) : now_(now), names_(std::move(globals)) {}

  void run(const std::vector<Statement>& statements, std::string& out) {
    for (const Statement& statement : statements) run(statement, out);
  }

 private:
  void run(const Statement& s, std::string& out) {
    steps_.take(s.line);
    switch (s.kind) {
      case Statement::plain:
        return append(out, s.text, s.line);
      case Statement::output:
        return append(out, text_of(evaluate(*s.condition), s.line), s.line);
      case Statement::branch:
        return run(is_true(evaluate(*s.condition)) ? s.body : s.otherwise, out);
      case Statement::loop:
        return loop(s, out);
      case Statement::assign:
        return names_.assign(s.names, evaluate(*s.condition), s.line);
      case Statement::capture: {
        std::string text;
        {
          const Names::Inside block(names_);
          run(s.body, text);
        }
        return names_.assign(s.names, Json(text), s.line);
      }
      case Statement::scope: {
        const Names::Inside block(names_);
        return run(s.body, out);
      }
      case Statement::macro: {
        Value value = Json(concat("<Macro '", s.text, "'>"));
        value.macro = std::make_shared<Macro>(Macro{s, names_.scope()});
        return names_.set(s.text, std::move(value));
      }
      case Statement::leave:
        throw Break{};
      case Statement::next:
        throw Continue{};
    }
  }

  // Calls use(value) with a named value in its place, so that a part of a long list is had without copying the list.
  template <class Use>
  Value with(const Expression& e, Use use) {
    if (e.kind != Expression::name) return use(evaluate(e));
    const Value* found = names_.find(e.text);
    if (!found) return use(names_.look_up(e.text));
    if (found->json.is_string()) steps_.take(e.line, size_of(found->json));
    return use(*found);
  }

  void loop(const Statement& s, std::string& out) {
    Json items = items_of(evaluate(*s.condition), s.line);
    if (s.filter) {
      const Names::Inside block(names_);
      Json kept = Json::array();
      for (const Json& item : items) {
        steps_.take(s.line);
        names_.bind(s.names, item, s.line);
        if (is_true(evaluate(*s.filter))) kept.push_back(item);
      }
      items = std::move(kept);
    }
    const int64_t length = int64_t(items.size());
    try {
      for (int64_t i = 0; i < length; ++i) {
        steps_.take(s.line, 8);  // what 'loop' holds
        const Names::Inside block(names_);
        names_.bind(s.names, items[size_t(i)], s.line);
        Json about = {{"index", i + 1},
                      {"index0", i},
                      {"first", i == 0},
                      {"last", i + 1 == length},
                      {"length", length},
                      {"revindex", length - i},
                      {"revindex0", length - i - 1}};
        if (i > 0) about["previtem"] = items[size_t(i - 1)];
        if (i + 1 < length) about["nextitem"] = items[size_t(i + 1)];
        Value loop = std::move(about);
        loop.loop = true;
        names_.set("loop", std::move(loop));
        try {
          run(s.body, out);
        } catch (const Continue&) {
        }
      }
    } catch (const Break&) {
    }
    if (length == 0) run(s.otherwise, out);
  }

  Arguments arguments_of(const Expression& e) {
    Arguments out;
    out.line = e.line;
    out.steps = &steps_;
    const size_t placed = e.kids.size() - e.keywords.size();
    for (size_t i = 1; i < placed; ++i) out.values.push_back(evaluate(*e.kids[i]));
    for (size_t i = placed; i < e.kids.size(); ++i) out.named[e.keywords[i - placed]] = evaluate(*e.kids[i]);
    return out;
  }

  Value call(const Expression& e) {
    const Expression& callee = *e.kids[0];
    if (callee.kind == Expression::attribute) {
      const Value object = evaluate(*callee.kids[0]);
      return call_method(object, callee.text, arguments_of(e));
    }
    if (callee.kind != Expression::name) refuse(e.line, "this cannot be called");
    const Value* found = names_.find(callee.text);
    if (!found) {
      Value value = call_function(callee.text, arguments_of(e), now_);
      names_.keep(value);
      return value;
    }
    if (!found->macro) refuse(e.line, concat("'", callee.text, "' cannot be called"));
    return call_macro(*std::shared_ptr(found->macro), arguments_of(e));
  }

  Value call_macro(const Macro& macro, const Arguments& arguments) {
    const Statement& s = macro.statement;
    const std::shared_ptr<Scope> outer = macro.scope.lock();
    if (!outer) refuse(arguments.line, concat("the block that has the macro '", s.text, "' is over"));
    if (++calls_ > kDeepestCall) refuse(arguments.line, "macros call each other too deeply");
    if (arguments.values.size() > s.names.size())
      refuse(arguments.line, concat("'", s.text, "' has ", s.names.size(), " parameters"));
    for (const auto& [name, _] : arguments.named) {
      const auto parameter = std::find(s.names.begin(), s.names.end(), name);
      if (parameter == s.names.end()) refuse(arguments.line, concat("'", s.text, "' has no parameter '", name, "'"));
      if (size_t(parameter - s.names.begin()) < arguments.values.size())
        refuse(arguments.line, concat("'", s.text, "' has two values for '", name, "'"));
    }
    const Names::Inside block(names_, outer);
    for (size_t i = 0; i < s.names.size(); ++i) {
      const size_t with_default = s.names.size() - s.defaults.size();
      const bool passed = i < arguments.values.size() || arguments.named.contains(s.names[i]);
      Value value = arguments.get(i, s.names[i], Value::undefined(s.names[i]));
      if (!passed && i >= with_default) value = evaluate(*s.defaults[i - with_default]);
      names_.set(s.names[i], std::move(value));
    }
    std::string text;
    try {
      run(s.body, text);
    } catch (const Break&) {
      refuse(arguments.line, "'break' in a macro stands outside of a loop");
    } catch (const Continue&) {
      refuse(arguments.line, "'continue' in a macro stands outside of a loop");
    }
    --calls_;
    return Json(text);
  }

  Value slice(const Expression& e) {
    const Value object = evaluate(*e.kids[0]);
    if (!object.defined) refuse(e.line, concat("'", object.missing, "' is undefined"));
    const Json items = items_of(object, e.line);
    const int64_t length = int64_t(items.size());
    steps_.take(e.line, length);
    const auto bound = [&](size_t kid, int64_t otherwise) {
      if (!e.kids[kid]) return otherwise;
      const Value value = evaluate(*e.kids[kid]);
      if (value.json.is_null()) return otherwise;
      if (!value.json.is_number_integer()) refuse(e.line, "a bound of a slice is not a whole number");
      return value.json.get<int64_t>();
    };
    const int64_t step = std::clamp(bound(3, 1), -length - 1, length + 1);
    if (step == 0) refuse(e.line, "the step of a slice is zero");
    const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? length : length - 1;
    const auto placed = [&](size_t kid, int64_t otherwise) {
      if (!e.kids[kid]) return otherwise;
      const int64_t at = bound(kid, otherwise);
      return std::clamp(at < 0 ? at + length : at, low, high);
    };
    const int64_t begin = placed(1, step > 0 ? 0 : length - 1), end = placed(2, step > 0 ? length : -1);
    Json out = Json::array();
    for (int64_t i = begin; step > 0 ? i < end : i > end; i += step) out.push_back(items[size_t(i)]);
    if (!object.json.is_string()) return out;
    std::string text;
    for (const Json& c : out) text += c.get<std::string>();
    return Json(text);
  }

  Value binary(const Expression& e) {
    const std::string& op = e.text;
    const Value a = evaluate(*e.kids[0]);
    if (op == "and") return is_true(a) ? evaluate(*e.kids[1]) : a;
    if (op == "or") return is_true(a) ? a : evaluate(*e.kids[1]);
    if (op == "%" && a.json.is_string()) return Json(formatted_by(a.json.get<std::string>(), *e.kids[1]));
    const Value b = evaluate(*e.kids[1]);
    if (op == "==") return Json(is_equal(a, b));
    if (op == "!=") return Json(!is_equal(a, b));
    if (op == "in") return Json(contains(b, a, e.line));
    if (op == "not in") return Json(!contains(b, a, e.line));
    if (op == "~") return Json(joined(text_of(a, e.line), text_of(b, e.line), e.line));
    if (op == "<" || op == ">" || op == "<=" || op == ">=") return Json(compare(op, a, b, e.line));
    return arithmetic(op, a, b, e.line);
  }

  std::string formatted_by(const std::string& format, const Expression& values) {
    if (values.kind != Expression::tuple) return formatted(format, evaluate(values), steps_, values.line);
    std::vector<Value> tuple;
    for (const ExpressionPtr& kid : values.kids) tuple.push_back(evaluate(*kid));
    return formatted(format, tuple, steps_, values.line);
  }

  Value evaluate(const Expression& e) {
    Value value = compute(e);
    steps_.take(e.line, size_of(value.json));
    return value;
  }

  Value compute(const Expression& e) {
    switch (e.kind) {
      case Expression::literal:
        return e.value;
      case Expression::name:
        return names_.look_up(e.text);
      case Expression::attribute: {
        return with(*e.kids[0], [&](const Value& object) {
          if (e.text.find_first_not_of("0123456789") == std::string::npos)
            return index(object, Json(whole_of(e.text, e.line).value_or(0)), e.line);
          return attribute(object, e.text, e.line);
        });
      }
      case Expression::index: {
        const Value key = evaluate(*e.kids[1]);
        return with(*e.kids[0], [&](const Value& object) { return index(object, key, e.line); });
      }
      case Expression::slice:
        return slice(e);
      case Expression::call:
        return call(e);
      case Expression::filter: {
        const Arguments arguments = arguments_of(e);
        return with(*e.kids[0], [&](const Value& value) {
          // Reading costs less than making; the length of a list costs nothing.
          if (value.json.is_structured() && e.text != "length" && e.text != "count")
            steps_.take(e.line, size_of(value.json) / 8);
          return apply_filter(value, e.text, arguments);
        });
      }
      case Expression::test: {
        const Arguments arguments = arguments_of(e);
        return with(*e.kids[0], [&](const Value& value) {
          if (!arguments.values.empty()) steps_.take(e.line, size_of(value.json) / 8);
          return Value(Json(apply_test(value, e.text, arguments)));
        });
      }
      case Expression::unary: {
        const Value value = evaluate(*e.kids[0]);
        if (e.text == "not") return Json(!is_true(value));
        return arithmetic(e.text, Json(int64_t(0)), value, e.line);
      }
      case Expression::binary:
        return binary(e);
      case Expression::condition:
        if (is_true(evaluate(*e.kids[0]))) return evaluate(*e.kids[1]);
        return e.kids[2] ? evaluate(*e.kids[2]) : Value::undefined("the value of a condition that does not hold");
      case Expression::list:
      case Expression::tuple: {
        Json out = Json::array();
        for (const ExpressionPtr& kid : e.kids) out.push_back(evaluate(*kid).json);
        return out;
      }
      case Expression::dictionary: {
        Json out = Json::object();
        for (size_t i = 0; i + 1 < e.kids.size(); i += 2) {
          const Value key = evaluate(*e.kids[i]);
          if (!key.defined || !key.json.is_string()) refuse(e.line, "a key of a dictionary is not a text");
          out[key.json.get_ref<const std::string&>()] = evaluate(*e.kids[i + 1]).json;
        }
        return out;
      }
    }
    return {};
  }

  const std::time_t now_;
  Names names_;
  Steps steps_;
  int calls_ = 0;
};

}  // namespace

std::string render(const std::vector<Statement>& statements, std::map<std::string, Value> globals, std::time_t now) {
  std::string out;
  try {
    Evaluator(std::move(globals), now).run(statements, out);
  } catch (const Break&) {
    throw Error(ErrorKind::invalid, "chat template: 'break' stands outside of a loop");
  } catch (const Continue&) {
    throw Error(ErrorKind::invalid, "chat template: 'continue' stands outside of a loop");
  }
  return out;
}

}  // namespace pleat::jinja
