#include <cstdio>
#include <memory>

#include "conversation_names.hpp"
#include "krul/conversation/saved_conversations.hpp"
#include "krul/model/chat_turns.hpp"
#include "krul/model/gguf.hpp"
#include "krul/model/model_chat.hpp"
#include "verbs.hpp"

namespace krul::cli {
namespace {

struct ShowOptions {
  ModelOptions model;
  StoreOptions store;
  std::string id;
};

void show(const ShowOptions& options, const Tool& tool) {
  auto store = options.store.open_to_read(tool).store;
  const Manifest manifest = unwrap_saved(options.id, load_saved(store, options.id)).manifest;
  // The weights are of no use here.
  const auto file = unwrap(GgufFile::open(options.model.file()));
  auto tokenizer = unwrap(Tokenizer::from_gguf(file));
  if (tokenizer.hash() != manifest.identity.tokenizer &&
      (manifest.texts.empty() || tokenizer.texts_hash(manifest.tokens) != manifest.texts))
    throw Failure({ErrorCode::identity_mismatch, "\"" + escaped_id(options.id) +
                                                     "\" was held with a model of another tokenizer; give that "
                                                     "model's file as --model"});
  const std::span<const Token> tokens(manifest.tokens);
  const auto chat = unwrap(chat_format_of(file, tokenizer, options.model.chat_template));
  const auto turns = shown_turns(tokens, tokenizer, chat);
  Json all = Json::array();
  for (const auto& [role, content] : turns) {
    if (!tool.json)
      std::printf("%s%s: %s\n", all.empty() ? "" : "\n", role.c_str(), escaped(content, Lines::many).c_str());
    all.push_back({{"role", role}, {"content", content}});
  }
  if (tool.json)
    tool.print({{"id", options.id}, {"tokens", tokens.size()}, {"turns", all}, {"text", tokenizer.decode(tokens)}});
  else if (turns.empty())
    std::printf("%s\n", escaped(tokenizer.decode(tokens), Lines::many).c_str());
}

}  // namespace

void add_show(CLI::App& program, Tool& tool) {
  auto options = std::make_shared<ShowOptions>();
  auto* verb = program.add_subcommand("show", "the text of a saved conversation");
  options->model.add_file_to(*verb);
  options->model.add_template_to(*verb);
  options->store.add_to(*verb);
  verb->add_option("conversation", options->id, "the conversation's id")->required();
  verb->callback([options, &tool] { show(*options, tool); });
}

}  // namespace krul::cli
