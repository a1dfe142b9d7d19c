#include "krul/model/load.hpp"

#include <utility>

#include "krul/model/model_chat.hpp"

namespace krul {

Result<ModelText> ModelText::read(const GgufFile& file, const std::filesystem::path& path,
                                  const std::string& chat_template) {
  auto tokenizer = Tokenizer::from_gguf(file);
  if (!tokenizer) return propagate(tokenizer);
  auto chat = chat_format_of(file, *tokenizer, chat_template);
  if (!chat && chat.error().code == ErrorCode::invalid_argument) return propagate(chat);
  std::string name = path.stem().string();
  if (const auto own = file.string_value("general.name"); own && !own->empty()) name = *own;
  return ModelText{std::move(*tokenizer), std::move(chat), std::move(name)};
}

Result<LoadedModel> load_model(const std::filesystem::path& path, const CpuOptions& options) {
  auto kernels = AnyKernels::choose(options.kernels, options.precision);
  if (!kernels) return propagate(kernels);
  auto file = GgufFile::open(path);
  if (!file) return propagate(file);
  auto text = ModelText::read(*file, path, options.chat_template);
  if (!text) return propagate(text);
  auto backend = CpuModel::load(std::move(*file), std::move(*kernels),
                                {.threads = options.threads,
                                 .cache_type = options.cache_type,
                                 .tokenizer = text->tokenizer.hash(),
                                 .vocabulary = text->tokenizer.size(),
                                 .context = options.context});
  if (!backend) return propagate(backend);
  return LoadedModel{std::move(*text), std::move(*backend)};
}

}  // namespace krul
