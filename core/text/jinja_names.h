#pragma once
// The names that a template knows where it stands.
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/text/jinja_value.h"

namespace pleat::jinja {

// The names of a block. What a block within does not know, the one around it may.
struct Scope {
  std::map<std::string, Value> names;
  std::shared_ptr<Scope> outer;
};

class Names {
 public:
  // A new scope within the present one, or within `outer`, until the end of the C++ block.
  class Inside {
   public:
    explicit Inside(Names& names) : Inside(names, names.scope_) {}
    Inside(Names& names, std::shared_ptr<Scope> outer);
    ~Inside() { names_.scope_ = before_; }
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;

   private:
    Names& names_;
    const std::shared_ptr<Scope> before_;
  };

  explicit Names(std::map<std::string, Value> globals);
  ~Names();
  Names(const Names&) = delete;
  Names& operator=(const Names&) = delete;

  const std::shared_ptr<Scope>& scope() const { return scope_; }
  const Value* find(const std::string& name) const;  // nullptr: undefined, or a function
  Value look_up(const std::string& name) const;
  void set(const std::string& name, Value value) { scope_->names[name] = std::move(value); }
  // Error(invalid) where the values are not as many as the names, or what stands before the dot of a name is no
  // namespace.
  void assign(const std::vector<std::string>& names, const Value& value, int line);
  void bind(const std::vector<std::string>& names, const Json& item, int line);  // of a loop; likewise
  void keep(const Value& value);  // a namespace that the template has made

 private:
  void assign(const std::string& name, const Value& value, int line);

  std::shared_ptr<Scope> scope_;
  std::vector<std::shared_ptr<std::map<std::string, Value>>> spaces_;
};

}  // namespace pleat::jinja
