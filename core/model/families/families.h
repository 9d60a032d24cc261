#pragma once
// How each Hugging Face model_type fills in the Blueprint: one function, one file each.
#include "core/model/blueprint.h"

namespace pleat {

class Config;

Blueprint gpt2_blueprint(const Checkpoint& checkpoint, const Config& config);

}  // namespace pleat
