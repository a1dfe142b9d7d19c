#include <cstdio>
#include <krul/krul.hpp>

using krul::or_throw;

int main(int count, char** arguments) try {
  if (count != 2) return std::fputs("usage: minimal MODEL.gguf\n", stderr), 1;
  auto model = or_throw(krul::load_model(arguments[1]));
  krul::MemoryStore store;  // or or_throw(krul::FileStore::open("folder"))
  std::vector<float> logits(model.backend.geometry().vocabulary);
  auto tokens = model.tokenizer.encode("The garden has four beds. Beans climb in the first, squash fills the second.");
  {
    auto conversation = or_throw(krul::open_conversation(model.backend, store, "garden"));
    or_throw(conversation.advance(tokens, logits));  // runs the model
    or_throw(conversation.save());
  }  // the KV cache is freed
  const auto more = model.tokenizer.encode(" What grows in the second bed?");
  tokens.insert(tokens.end(), more.begin(), more.end());
  auto conversation = or_throw(krul::open_conversation(model.backend, store, "garden"));
  const krul::RestoreReport report = or_throw(conversation.advance(tokens, logits));  // restores, then runs the rest
  std::printf("%zu of %zu tokens restored from %zu bytes\n", report.matched, report.asked, std::size_t{report.bytes});
} catch (const std::exception& error) {
  return std::fprintf(stderr, "%s\n", error.what()), 1;
}
