#include "krul/model/load.hpp"

#include <utility>

#include "krul/model/model_chat.hpp"

namespace krul {

Result<LoadedModel> load_model(const std::filesystem::path& path, const CpuOptions& options) {
  auto kernels = AnyKernels::choose(options.kernels, options.precision);
  if (!kernels) return propagate(kernels);
  auto file = GgufFile::open(path);
  if (!file) return propagate(file);
  auto tokenizer = Tokenizer::from_gguf(*file);
  if (!tokenizer) return propagate(tokenizer);
  auto chat = chat_format_of(*file, *tokenizer, options.chat_template);
  if (!chat && chat.error().code == ErrorCode::invalid_argument) return propagate(chat);
  std::string name = path.stem().string();
  if (const auto own = file->string_value("general.name"); own && !own->empty()) name = *own;

  auto backend = CpuModel::load(std::move(*file), std::move(*kernels),
                                {.threads = options.threads,
                                 .cache_type = options.cache_type,
                                 .tokenizer = tokenizer->hash(),
                                 .vocabulary = tokenizer->size(),
                                 .context = options.context});
  if (!backend) return propagate(backend);
  return LoadedModel{std::move(*backend), std::move(*tokenizer), std::move(chat), std::move(name)};
}

}  // namespace krul
