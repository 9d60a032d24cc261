// The options.json of a search for a recipe, for a plain and for a gated model.
#include "core/fold/recipe_search.h"
#include "core/model/blueprint.h"
#include "tests/fuzz/fuzz.h"

using namespace pleat;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const fuzz::MemoryFile file(fuzz::text_of(data, size));
  for (const bool gated : {false, true}) {
    Blueprint blueprint;
    blueprint.layers = 2;
    blueprint.hidden = 64;
    blueprint.neurons = 128;
    blueprint.gated = gated;
    fuzz::accepts([&] {
      const RecipeSearch search = RecipeSearch::read(file.path(), blueprint);
      for (const bool stored : {false, true}) {
        const ByteCount count{0, stored};
        const FoundRecipe found = search.best(search.smallest(count), count, false);
        fuzz::expect(found.layers.empty() || found.layers.size() == 2, "a recipe has all layers");
      }
    });
  }
  return 0;
}
