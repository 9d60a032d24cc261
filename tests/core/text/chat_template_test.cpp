// Chat templates against jinja2 in transformers' environment (fixtures/make_chat.py).
#include "core/text/chat_template.h"

#include <gtest/gtest.h>

#include <chrono>
#include <limits>
#include <random>
#include <sstream>

#include "core/text/model_text.h"
#include "core/text/utf8.h"
#include "kernels/check.h"
#include "tests/core/text/gpt2_tokenizer.h"

namespace pleat {
namespace {

using Json = nlohmann::ordered_json;

Json fixture_json() { return Json::parse(file_text(fixture("chat.json"))); }

// nullopt: refused.
std::optional<std::string> rendered(const std::string& source, const Json& messages, bool generation,
                                    const Json& variables, std::string* why = nullptr) {
  try {
    return ChatTemplate(source, "<s>", "</s>").render(messages, generation, variables);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid) << error.what();
    if (why) *why = error.what();
    return std::nullopt;
  }
}

std::optional<std::string> text_or_none(const Json& value) {
  return value.is_null() ? std::nullopt : std::optional(value.get<std::string>());
}

TEST(ChatTemplate, RendersConversationsAsTransformersDoes) {
  const Json all = fixture_json();
  int count = 0;
  for (const Json& one : all["templates"])
    for (const Json& item : one[1]) {
      ++count;
      std::string why;
      const auto text = rendered(one[0], item[0], item[1], item[2], &why);
      EXPECT_EQ(text, text_or_none(item[3])) << why << "\n" << one[0].get<std::string>().substr(0, 60) << item[0];
    }
  EXPECT_EQ(count, 7 * 5 * 4);
}

TEST(ChatTemplate, EvaluatesExpressionsAsJinja2Does) {
  const Json all = fixture_json();
  for (const Json& one : all["expressions"]) {
    const std::string source = one[0];
    std::string why;
    const auto text = rendered(source, Json::array(), false, Json::object(), &why);
    EXPECT_EQ(text, text_or_none(one[1])) << source << "\n" << why;
  }
}

TEST(ChatTemplate, PrintsCharactersInListsAsPythonDoes) {
  const Json all = fixture_json();
  int count = 0;
  for (const Json& row : all["printed"]) {
    Json list = Json::array();
    std::istringstream codes(row[0].get<std::string>());
    for (uint32_t code; codes >> std::hex >> code; ++count) {
      std::string character;
      append_utf8(code, character);
      list.push_back(character);
    }
    EXPECT_EQ(rendered("{{ messages }}", list, false, Json::object()), row[1]) << row[0];
  }
  EXPECT_GT(count, 600);
  const Json both = {{"a\u200b", Json::array({"\xff\u00a0\xe2\x80"})}};  // ill-formed bytes stay
  EXPECT_EQ(rendered("{{ messages }}", both, false, Json::object()), "{'a\\u200b': ['\xff\\xa0\xe2\x80']}");
}

TEST(ChatTemplate, SeesTheTimeThatItIsTold) {
  // As Llama 3.1's asks for it.
  const ChatTemplate dated(
      "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% else %}26 Jul 2024{% endif %}", "", "");
  EXPECT_EQ(dated.render(Json::array(), false, {}, 951782400), "29 Feb 2000");
  EXPECT_EQ(dated.render(Json::array(), false, {}, 951782399), "28 Feb 2000");
  EXPECT_EQ(dated.render(Json::array(), false), dated.render(Json::array(), false, {}, std::time(nullptr)));
  EXPECT_THROW(dated.render(Json::array(), false, {}, std::numeric_limits<std::time_t>::max()), Error);
}

TEST(ChatTemplate, SaysWhatItDoesNotKnowAndWhere) {
  const auto why = [](const std::string& source) {
    std::string message;
    EXPECT_EQ(rendered(source, Json::array(), false, Json::object(), &message), std::nullopt) << source;
    return message;
  };
  EXPECT_NE(why("a\nb\n{{ x|bogus }}").find("line 3: unknown filter 'bogus'"), std::string::npos);
  EXPECT_NE(why("a\n{% raw %}\nb\n").find("line 2: 'raw' has no 'endraw'"), std::string::npos);
  EXPECT_NE(why("{% raw %}\n\n{% endraw %}{{ x|bogus }}").find("line 3: unknown filter"), std::string::npos);
  EXPECT_NE(why("{% include 'x' %}").find("unknown tag 'include'"), std::string::npos);
  EXPECT_NE(why("{{ x is bogus }}").find("unknown test 'bogus'"), std::string::npos);
  EXPECT_NE(why("{{ lipsum() }}").find("unknown function 'lipsum'"), std::string::npos);
  EXPECT_NE(why("{{ 'x'.format(1) }}").find("unknown method 'format'"), std::string::npos);
  EXPECT_NE(why("{{ {1: 'a'}[1] }}").find("line 1: a key of a dictionary is not a text"), std::string::npos);
  EXPECT_NE(why("{{ [1]|sort(key=2) }}").find("unknown argument 'key' of 'sort'"), std::string::npos);
  EXPECT_NE(why("{{ '12'|int(base=8) }}").find("unknown argument 'base' of 'int'"), std::string::npos);
  EXPECT_NE(why("{{ {}|tojson(default=1) }}").find("unknown argument 'default'"), std::string::npos);
  EXPECT_NE(why("{{ {}|tojson(separators=', ') }}").find("not two texts"), std::string::npos);
  EXPECT_NE(why("{{ {}|tojson(indent='  ') }}").find("the indent of tojson is not a whole number"), std::string::npos);
  EXPECT_NE(why("{{ [{}]|map(attribute='a')|list }}").find("an item of the list has no 'a'"), std::string::npos);
  EXPECT_NE(why("a\n{{ '\\N{BULLET}' }}").find("line 2: characters by their names"), std::string::npos);
  EXPECT_NE(why("{{ '\\ud83d' }}").find("no character has the code d83d"), std::string::npos);
  EXPECT_NE(
      why("{% set ns = namespace() %}{% for i in [1] %}{% macro m() %}{% endmacro %}{% set ns.m = m %}{% endfor %}"
          "{% set f = ns.m %}{{ f() }}")
          .find("the block that has the macro 'm' is over"),
      std::string::npos);
  const std::string least = "'-9223372036854775808'|int";
  for (const std::string& use : {least + " is divisibleby(-1)", "(" + least + ")|abs",
                                 "'aa'.replace('a', 'b', " + least + ")", "'a'|replace('a', 'b', " + least + ")"})
    EXPECT_NE(why("{{ " + use + " }}").find("a number is too large"), std::string::npos) << use;
  EXPECT_NE(why("{{ [1].9999999999999999999999 }}").find("a number is too long"), std::string::npos);
  EXPECT_EQ(rendered("{{ 1e999 }}", Json::array(), false, Json::object()), "inf");
  EXPECT_NE(why("{{ '%s' % (1, 2) }}").find("line 1: a text with % has more values than places"), std::string::npos);
  EXPECT_NE(why("{{ '%s%s' % [1, 2] }}").find("fewer values than places"), std::string::npos);
  EXPECT_NE(why("{{ '%(b)s' % {'a': 1} }}").find("the dictionary has no 'b'"), std::string::npos);
  EXPECT_NE(why("{{ '%y' % 1 }}").find("unknown place '%y'"), std::string::npos);
  EXPECT_NE(why("{{ '%x' % 1.5 }}").find("'%x' needs a whole number"), std::string::npos);
  EXPECT_EQ(why("{{ raise_exception('Roles must alternate') }}"), "Roles must alternate");
}

TEST(ChatTemplate, WritesJsonAsTransformersDoes) {
  const std::string value = "{{ {'b': ['\u00e9', 1], 'a': {'d': 1, 'c': []}}|tojson";
  for (const auto& [arguments, expected] :
       {std::pair{"", R"({"b": ["é", 1], "a": {"d": 1, "c": []}})"},
        std::pair{"(ensure_ascii=true)", R"({"b": ["\u00e9", 1], "a": {"d": 1, "c": []}})"},
        std::pair{"(sort_keys=true)", R"({"a": {"c": [], "d": 1}, "b": ["é", 1]})"},
        std::pair{"(separators=(',', ':'))", R"({"b":["é",1],"a":{"d":1,"c":[]}})"},
        std::pair{"(true, none, ('; ', '='), true)", R"({"a"={"c"=[]; "d"=1}; "b"=["\u00e9"; 1]})"},
        std::pair{"(false, 1, ('; ', '='))",
                  "{\n \"b\"=[\n  \"\u00e9\"; \n  1\n ]; \n \"a\"={\n  \"d\"=1; \n  \"c\"=[]\n }\n}"}})
    EXPECT_EQ(rendered(value + arguments + " }}", Json::array(), false, Json::object()), expected) << arguments;
}

TEST(ChatTemplate, ChangesTheCaseOfEveryScript) {
  for (const auto& [expression, expected] :
       {std::pair{"'été ж'|upper", "ÉTÉ Ж"}, std::pair{"'ÉTÉ'.lower()", "été"},
        std::pair{"'éTÉ-жa (σB'|title", "Été-Жa (Σb"}, std::pair{"'été中a ǆ'.title()", "Été中A ǅ"},
        std::pair{"'éTÉ A'|capitalize", "Été a"}, std::pair{"['é', 'É']|unique|list|length", "1"},
        std::pair{"'\xffé'|upper", "\xffÉ"}})
    EXPECT_EQ(rendered(concat("{{ ", expression, " }}"), Json::array(), false, Json::object()), expected) << expression;
}

TEST(ChatTemplate, ATestsArgumentNeedsNoBrackets) {
  const std::string names = "{% set x = 'a' %}{% set b = {'c': ['a']} %}";
  for (const auto& [test, holds] :
       {std::pair{"x is in ['a', 'b']", "True"}, std::pair{"x is in b.c", "True"},
        std::pair{"x is in {'a': 1}", "True"}, std::pair{"x is eq b", "False"},
        std::pair{"none is sameas none", "True"}, std::pair{"1.5 is eq 1.5", "True"},
        std::pair{"x is string and b is not eq x", "True"}, std::pair{"x is defined or y", "True"},
        std::pair{"1 if x is none else 2", "2"}, std::pair{"x is string if x", "True"}})
    EXPECT_EQ(rendered(names + "{{ " + test + " }}", Json::array(), false, Json::object()), holds) << test;
}

TEST(ChatTemplate, ChoosesNothingFromNothing) {
  for (const std::string nothing : {"none", "''", "0", "[]", "missing"})
    for (const std::string filter : {"select", "reject", "selectattr('a')", "rejectattr('a')", "map('upper')"}) {
      const std::string source = "{{ " + nothing + "|" + filter + "|list }}";
      EXPECT_EQ(rendered(source, Json::array(), false, Json::object()), "[]") << source;
    }
}

std::string elifs(int count) {
  std::string source = "{% if false %}";
  for (int i = 0; i < count; ++i) source += "{% elif false %}";
  return source + "{% endif %}";
}

TEST(ChatTemplate, AHostileTemplateEndsSoon) {
  const std::string ones = "range(90000)", big = "{% set b = 'b' * 1000000 %}";
  const std::string nested =
      "{% set ns = namespace(x=[1]) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}{% endfor %}";
  for (const std::string& source :
       {"{% for a in " + ones + " %}{% for b in " + ones + " %}{% endfor %}{% endfor %}",
        std::string("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), std::string("{{ range(1000000000) }}"),
        std::string("{{ 'aaaaaaaaaaaaaaaa' * 100000000000 }}"), std::string(100000, '('),
        "{{ " + std::string(100000, '(') + "1" + std::string(100000, ')') + " }}",
        "{{ " + std::string(100000, '-') + "1 }}", "{{ not " + std::string(100000, '[') + " }}",
        std::string(
            "{% set ns = namespace(x='ab') %}{% for i in range(100) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}"),
        std::string("{% set ns = namespace(x=[1]) %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}{% endfor %}"),
        std::string("{% set ns = namespace(x=[1]) %}{% for i in range(90000) %}{% set ns.x = [ns.x] %}{% endfor %}"),
        std::string("{% set a = range(90000) %}{% for i in a %}{% set b = a %}{% endfor %}"),
        std::string("{{ [1,2,3,4][3::'9223372036854775807'|int] ~ range(1, 2, '9223372036854775807'|int) }}"),
        elifs(100000), std::string("{% macro m() %}{% break %}{% endmacro %}{% for i in [1] %}{{ m() }}{% endfor %}"),
        // What fills a text or a list in one go.
        std::string("{{ [1]|batch(1000000000, 2)|list|length }}"), big + "{{ [1]|batch(90000, b)|list|length }}",
        std::string("{{ 'x'|center(1000000000) }}"), std::string("{{ range(90000)|batch(1)|sum(start=[])|length }}"),
        std::string("{{ '%1000000000s' % 1 }}"), std::string("{{ '%0*d' % (100000000, 1) }}"),
        std::string("{{ '%.100000000f' % 1 }}"), std::string("{{ '%.100000000d' % 1 }}"),
        std::string("{{ ('%(b).0s' * 1000000) % {'b': 'b' * 1000000} }}"),
        std::string("{{ ('a' * 1000000).replace('a', 'b' * 1000000) }}"),
        std::string("{{ ('a' * 1000000)|replace('', 'b' * 1000000) }}"),
        std::string("{{ range(90000)|join('b' * 1000000) }}"),
        std::string("{{ ('b' * 1000000).join(range(90000)|map('string')|list) }}"),
        std::string("{{ ('a\n' * 1000000)|indent('b' * 1000000) }}"), std::string("{{ 'a\nb'|indent(1000000000) }}"),
        nested + "{{ ns.x|tojson(indent=1000) }}", nested + "{{ ns.x|tojson(indent=9000000000000000) }}",
        big + "{{ [b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b] }}",
        big + "{{ range(90000)|map('replace', '0', b) }}",
        big + "{{ range(90000)|map(attribute='x', default=b)|list|length }}",
        big + "{% for i in range(90000) %}{{ b[0] }}{{ b|first }}{{ b|trim('b')|length }}{% endfor %}",
        std::string("{% for c in 'a' * 16000000 %}{% endfor %}"),
        std::string("{{ ('a' * 16000000).split('a')|length }}"),
        std::string("{% set a = range(90000) %}{% for i in a %}{{ a is in(a) }}{{ a|unique|list|length }}{% endfor %}"),
        std::string("{% set ns = namespace(x=1) %}{% for i in range(90000) %}{% for j in range(90000) %}"
                    "{% set ns.x = namespace(p=ns.x, ns=ns) %}{% endfor %}{% endfor %}"),
        std::string("{% macro m(a) %}{% endmacro %}{{ m(b=1) }}")})
    EXPECT_EQ(rendered(source, Json::array(), false, Json::object()).has_value(), source[0] == '(');
}

TEST(ChatTemplate, SearchesLongTextsInTheirStride) {
  const std::string long_ones = "{% set a = 'a' * 4000000 %}{% set part = 'a' * 1000000 ~ 'b' %}";
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(rendered(long_ones + "{{ part in a }} {{ a.find(part) }} {{ a.split(part)|length }} "
                                 "{{ a.replace(part, '')|length }} {{ 'abab'.replace('ab', 'c', 1) }} {{ '' in '' }}",
                     Json::array(), false, Json::object()),
            "False -1 1 4000000 cab True");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

TEST(ChatTemplate, DamagedTemplatesAreRefusedWithoutHarm) {
  const Json all = fixture_json();
  std::mt19937_64 random(5);
  for (const Json& one : all["templates"])
    for (int trial = 0; trial < 200; ++trial) {
      std::string source = one[0];
      for (int i = 0; i < 3; ++i) source[random() % source.size()] = "{}%#'\"()[]|.-+ a1\n"[random() % 18];
      rendered(source, one[1][0][0], true, Json::object());
    }
}

TEST(ChatTemplate, OfTheSharedModelGivesItsGoldenPrompt) {
  const auto folder = shared_data() / "models/smollm2-135m-instruct";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no " << folder;
  const Json golden = Json::parse(file_text(folder / "golden.json"));
  const auto chat = ModelText::open(folder / "SmolLM2-135M-Instruct.Q4_1.gguf").chat;
  ASSERT_TRUE(chat.has_value());
  int count = 0;
  for (const Json& item : golden["greedy"]) {
    if (!item.contains("chat")) continue;
    EXPECT_EQ(chat->render(item["chat"], true), item["rendered"]);
    ++count;
  }
  EXPECT_EQ(count, 1);
  EXPECT_FALSE(ModelText::open(PLEAT_SOURCE_DIR "/models/pleat-gpt2-9m").chat.has_value());
}

}  // namespace
}  // namespace pleat
